"""Where a task's images come from: lists (lists.py), a Hugging Face data set (hub.py), or drawn.

A source knows each split's images and labels and can say cheaply whether they changed.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task
from arc_train.tasks.hub import UNIFORM, Draw, hub_source, on_disk
from arc_train.tasks.lists import VTAB_LISTS, FGVCSource, VTABSource
from arc_train.tasks.own import own_source
from arc_train.tasks.standins import StandInSource

# As the root of all data: images drawn in the tasks' places, for a rehearsal. With a number below
# it, stand-ins/500, no more of them in a split.
STAND_INS = Path("stand-ins")
# As the root of all data: every task from the Hugging Face hub, or its cache on this machine.
HUB = Path("hub")


class Source(Protocol):
    """A task's splits. `key` changes when the files do; `variant` names the kind of data.

    task: with its classes and sizes, if it is a user's. split: "official" (the published images in
    each split), "lists" of somebody's own, "given" by the user with a task, or "drawn".
    """

    @property
    def task(self) -> Task: ...
    @property
    def variant(self) -> str: ...
    @property
    def split(self) -> str: ...
    def key(self) -> str: ...
    def size(self, split: str) -> int: ...
    def labels(self, split: str) -> NDArray[np.int64]: ...
    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]: ...


def open_source(task: Task, root: Path | None, draw: Draw = UNIFORM) -> Source:
    """The task's source, its lists read and checked.

    draw: how images are drawn from a data set that has no lists.

    Raises:
        InputError: no such folder, or a list that is wrong; names the file and the line.
    """
    if task.location is not None:
        return own_source(task, draw.seed)
    if task.group == "demo":
        return DrawnSource(task)
    if root and root.parts[:1] == STAND_INS.parts:
        return StandInSource(task, _most(root))
    if root == HUB:
        return hub_source(task, None, draw)
    lists = "train.json, val.json" if task.group == "fgvc" else "train800.txt, val200.txt"
    if root is None:
        raise InputError(
            f"task {task.key} needs its images: set data.root to the folder that holds "
            f"{task.folders[0]}/ with {lists} and test.{lists[-4:].strip('.')}, or to hub"
        )
    folder = task_folder(task, root)
    if folder is None:
        wanted = " or ".join(task.folders)
        raise InputError(f"task {task.key}: no folder {wanted} in data.root {root}")
    if holds_data_set(folder):
        return hub_source(task, folder, draw)
    return (FGVCSource if task.group == "fgvc" else VTABSource)(task, folder)


def _most(root: Path) -> int | None:
    """How many stand-ins a split may have at most."""
    if root == STAND_INS:
        return None
    if len(root.parts) > 2 or not root.name.isdecimal() or not int(root.name):
        raise InputError(f"data.root {root}: expected stand-ins, or stand-ins/500 for 500 a split")
    return int(root.name)


def task_folder(task: Task, root: Path) -> Path | None:
    """Where a task's images lie below the root of all data."""
    return next((root / name for name in task.folders if (root / name).is_dir()), None)


def holds_data_set(folder: Path) -> bool:
    """Whether a task's folder holds a data set and no lists."""
    listed = any((folder / name).exists() for name in ("train800.txt", "train.json"))
    return not listed and on_disk(folder)


class DrawnSource:
    """The embedded demo tasks: scikit-learn's digits and procedurally drawn shapes."""

    variant = "embedded"
    split = "drawn"

    def __init__(self, task: Task) -> None:
        self.task = task
        self._drawn: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}

    def _split(self, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if split not in self._drawn:
            from arc_train.tasks.drawn import draw

            self._drawn[split] = draw(self.task.key, VTAB_LISTS[split])
        return self._drawn[split]

    def key(self) -> str:
        """Changes with the drawing code, which is all that the images depend on."""
        code = Path(__file__).with_name("drawn.py").read_bytes()
        return hashlib.sha256(self.task.key.encode() + code).hexdigest()

    def size(self, split: str) -> int:
        from arc_train.tasks.drawn import split_size

        return split_size(self.task.key, VTAB_LISTS[split])

    def labels(self, split: str) -> NDArray[np.int64]:
        return self._split(split)[1]

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        for array in self._split(split)[0]:
            yield Image.fromarray(array), array.tobytes()

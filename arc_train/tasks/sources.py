"""Where a task's images come from: a VTAB-1k folder of lists (NOAH's layout), or drawn here.

A source knows each split's images and labels and can say cheaply whether they changed.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task

SPLITS = ("train800", "val200", "test")


class Source(Protocol):
    """A task's splits. `key` changes when the files do; `variant` names the kind of data."""

    variant: str

    def key(self) -> str: ...
    def size(self, split: str) -> int: ...
    def labels(self, split: str) -> NDArray[np.int64]: ...
    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]: ...


def open_source(task: Task, root: Path | None) -> Source:
    """The task's source, its lists read and checked.

    Raises:
        InputError: no such folder, or a list that is wrong; names the file and the line.
    """
    if task.group == "demo":
        return DrawnSource(task)
    if task.group == "fgvc":
        raise InputError(
            f"task {task.key}: the FGVC layouts (train/val/test.json) can't be read yet; "
            "use vtab/* or demo/* tasks"
        )
    if root is None:
        raise InputError(
            f"task {task.key} needs its images: set data.root to the folder that holds "
            f"{task.folders[0]}/ with train800.txt, val200.txt and test.txt"
        )
    for name in task.folders:
        if (root / name).is_dir():
            return FolderSource(task, root / name)
    raise InputError(f"task {task.key}: no folder {' or '.join(task.folders)} in data.root {root}")


class DrawnSource:
    """The embedded demo tasks: scikit-learn's digits and procedurally drawn shapes."""

    variant = "embedded"

    def __init__(self, task: Task) -> None:
        self.task = task
        self._drawn: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}

    def _split(self, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if split not in self._drawn:
            from arc_train.tasks.drawn import draw

            self._drawn[split] = draw(self.task.key, split)
        return self._drawn[split]

    def key(self) -> str:
        """Changes with the drawing code, which is all that the images depend on."""
        code = Path(__file__).with_name("drawn.py").read_bytes()
        return hashlib.sha256(self.task.key.encode() + code).hexdigest()

    def size(self, split: str) -> int:
        return len(self._split(split)[1])

    def labels(self, split: str) -> NDArray[np.int64]:
        return self._split(split)[1]

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        for array in self._split(split)[0]:
            yield Image.fromarray(array), array.tobytes()


@dataclass(frozen=True)
class _Line:
    number: int
    path: Path
    label: int


class FolderSource:
    """NOAH's layout: `<folder>/{train800,val200,test}.txt`, lines `path label`, and the images.

    `train800val200.txt`, where present, must list as many images of each class as the two lists
    it joins.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self.task = task
        self.folder = folder
        self._lines = {split: self._read(split) for split in SPLITS}
        if (folder / "train800val200.txt").exists():
            joined = Counter(line.label for line in self._read("train800val200"))
            parts = Counter(x.label for s in ("train800", "val200") for x in self._lines[s])
            if joined != parts:
                raise InputError(
                    f"{folder / 'train800val200.txt'} doesn't join train800.txt and val200.txt: "
                    f"it has {joined.total()} images, they have {parts.total()}, or their classes "
                    "differ"
                )
        sizes = tuple(len(self._lines[split]) for split in SPLITS)
        published = (task.train, task.val, task.test)
        self.variant = "vtab-1k folder"
        if sizes != published:
            self.variant += f" (sizes {'/'.join(map(str, sizes))}, not the published split)"

    def _read(self, split: str) -> list[_Line]:
        path = self.folder / f"{split}.txt"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"task {self.task.key}: can't read list {path}: {error}") from error
        root = self.folder.resolve()
        lines: list[_Line] = []
        for number, raw in enumerate(text.splitlines(), start=1):
            if not raw.strip():
                continue
            where = f"{path}:{number}"
            name, _, label = raw.strip().rpartition(" ")
            if not name or not label.isdecimal():
                raise InputError(f"{where}: expected 'path label', found {raw.strip()!r}")
            if int(label) >= self.task.classes:
                raise InputError(
                    f"{where}: label {label} is out of range; {self.task.key} has "
                    f"{self.task.classes} classes, 0 to {self.task.classes - 1}"
                )
            image = (self.folder / name.strip()).resolve()
            if not image.is_relative_to(root):
                raise InputError(f"{where}: {name!r} leaves the task's folder {self.folder}")
            if not image.is_file():
                raise InputError(f"{where}: no image {self.folder / name.strip()}")
            lines.append(_Line(number, image, int(label)))
        if not lines:
            raise InputError(f"{path} lists no images")
        return lines

    def key(self) -> str:
        digest = hashlib.sha256(self.task.key.encode())
        for split in SPLITS:
            for line in self._lines[split]:
                stat = line.path.stat()
                digest.update(
                    f"{split}|{line.path}|{line.label}|{stat.st_size}|{stat.st_mtime_ns}\n".encode()
                )
        return digest.hexdigest()

    def size(self, split: str) -> int:
        return len(self._lines[split])

    def labels(self, split: str) -> NDArray[np.int64]:
        return np.array([line.label for line in self._lines[split]], dtype=np.int64)

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        for line in self._lines[split]:
            try:
                content = line.path.read_bytes()
                image = Image.open(io.BytesIO(content))
                yield image.convert("RGB"), content
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                list_file = self.folder / f"{split}.txt"
                raise InputError(
                    f"{list_file}:{line.number}: can't read image {line.path}: {error}"
                ) from error

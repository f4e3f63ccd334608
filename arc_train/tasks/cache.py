"""The node cache: a task's images decoded once, as memory-mapped uint8 pixels per split.

A cache entry's folder is named by what it was made from (files, their sizes and times, image
size), so a changed file means another entry. Entries appear whole, by renaming; a lock makes
other processes wait instead of decoding the same images again.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task
from arc_train.tasks.hub import UNIFORM, Draw
from arc_train.tasks.sources import SPLITS, Source, open_source
from arc_train.tasks.transform import Transform, transform

# Pixels, memory-mapped read-only, and labels int64 [N]. Pixels are uint8 [N, S, S, 3]; for a task
# whose images keep their aspect, a list of views [h, w, 3] into the mapped file.
Loaded = tuple[NDArray[np.uint8] | list[NDArray[np.uint8]], Any]

FORMAT = 4


@dataclass(frozen=True)
class Entry:
    """A prepared task.

    fingerprint: 16 hex digits of the images' bytes and labels. variant: the kind of source.
    split: whether its images are those of the published split (Source.split).
    transform: what was done to the images, in words. side: of the images that models will see.
    """

    folder: Path
    fingerprint: str
    variant: str
    split: str
    transform: str
    side: int

    def load(self, split: str) -> Loaded:
        """Images and labels of `train` or `val`.

        Raises:
            InputError: the test split is asked for.
        """
        if split == "test":
            raise InputError(
                f"the test split is sealed ({self.folder}): a search uses train and val, and only "
                "finals open it, on record"
            )
        return self._read(split)

    def open_test(self, record: Callable[[], None]) -> Loaded:
        """Images and labels of the test split; `record` is called first."""
        record()
        return self._read("test")

    def _read(self, split: str) -> Loaded:
        pixels = np.memmap(self.folder / f"{split}.pixels", np.uint8, mode="r")
        shapes = np.load(self.folder / f"{split}.shapes.npy")
        labels = np.load(self.folder / f"{split}.labels.npy")
        if (shapes == self.side).all():
            return pixels.reshape(len(labels), self.side, self.side, 3), labels
        ends = np.cumsum(3 * shapes.prod(axis=1))
        views = zip(np.split(pixels, ends[:-1]), shapes, strict=True)
        return [view.reshape(h, w, 3) for view, (h, w) in views], labels


def default_folder() -> Path:
    """$ARC_SWEEP_CACHE, or arc-sweep in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ARC_SWEEP_CACHE") or f"{home}/arc-sweep").expanduser()


def prepare(
    task: Task,
    root: Path | None,
    size: int,
    cache: Path,
    progress: Callable[[int], None] = lambda images: None,
    draw: Draw = UNIFORM,
) -> Entry:
    """The task's cache entry, made now if it isn't there.

    size: side of the square images that the model takes.
    progress: called with the number of images decoded since the last call.
    draw: how images are drawn from a data set that has no lists.

    Raises:
        InputError: a list or an image is wrong; nothing is left behind.
    """
    source = open_source(task, root, draw)
    how = transform(task, size)
    key = hashlib.sha256(f"{FORMAT}|{how}|{source.key()}".encode()).hexdigest()[:24]
    folder = _place(task, cache) / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            _build(source, how, folder, progress)
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return Entry(folder, meta["fingerprint"], meta["variant"], meta["split"], str(how), size)


def cached(task: Task, cache: Path) -> list[dict[str, Any]]:
    """What is on record of each of a task's entries: fingerprint, variant, size."""
    return [json.loads(path.read_text()) for path in _place(task, cache).glob("*/meta.json")]


def _place(task: Task, cache: Path) -> Path:
    return cache / task.key.replace("/", "-")


class Fingerprint:
    """16 hex digits of a task's image files and labels, in order; nothing else matters to it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, content: bytes) -> None:
        """The next image's bytes as stored."""
        self._digest.update(hashlib.sha256(content).digest())

    def end(self, split: str, labels: NDArray[np.int64]) -> None:
        """A split is complete."""
        self._digest.update(split.encode() + labels.tobytes())

    def text(self) -> str:
        """The fingerprint."""
        return self._digest.hexdigest()[:16]


def disk(task: Task, images: int, size: int) -> int:
    """About how many bytes the pixels of so many images take: photographs are 4:3 on average."""
    how = transform(task, size)
    if how.augment == "none":
        return images * 3 * size**2
    return images * how.length**2 * (3 if how.resize == "squash" else 4)


def _build(source: Source, how: Transform, folder: Path, progress: Callable[[int], None]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        fingerprint = Fingerprint()
        for split in SPLITS:
            shapes = []
            with (scratch / f"{split}.pixels").open("wb") as file:
                for image, content in source.images(split):
                    fingerprint.add(content)
                    pixels = np.asarray(how.apply(image))
                    shapes.append(pixels.shape[:2])
                    file.write(pixels.tobytes())
                    progress(1)
            labels = source.labels(split)
            fingerprint.end(split, labels)
            np.save(scratch / f"{split}.shapes.npy", np.array(shapes, dtype=np.int64))
            np.save(scratch / f"{split}.labels.npy", labels)
        meta = {
            "fingerprint": fingerprint.text(),
            "variant": source.variant,
            "split": source.split,
            "size": how.size,
        }
        (scratch / "meta.json").write_text(json.dumps(meta))
        os.replace(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise

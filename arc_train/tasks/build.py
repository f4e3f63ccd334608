"""Fills one entry of the node cache: images decoded, their fingerprint taken, all of it on disk."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arc_train.tasks import stored
from arc_train.tasks.sources import Source
from arc_train.tasks.transform import Transform

# What is stored together: finals train on both splits that a search uses, in one piece.
FILES = {"search": ("train", "val"), "test": ("test",)}


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


def build(source: Source, how: Transform, folder: Path, progress: Callable[[int], None]) -> None:
    """Write an entry's files into an empty folder; on disk when this returns.

    progress: called with the number of images decoded since the last call.

    Raises:
        InputError: an image is wrong.
        OSError: there is no room, or the folder can't be written.
    """
    fingerprint = Fingerprint()
    for name, splits in FILES.items():
        with stored.Writer(folder, name) as writer:
            for split in splits:
                for image, content in _decoded(source, split, how):
                    fingerprint.add(content)
                    writer.add(image)
                    progress(1)
                labels = source.labels(split)
                fingerprint.end(split, labels)
                writer.end(split, labels)
    meta = {
        "fingerprint": fingerprint.text(),
        "variant": source.variant,
        "split": source.split,
        "size": how.size,
    }
    stored.write(folder / "meta", json.dumps(meta).encode())
    sync(folder)


def _decoded(source: Source, split: str, how: Transform) -> Iterator[tuple[stored.Image, bytes]]:
    for image, content in source.images(split):
        yield stored.Image.of(np.asarray(how.apply(image))), content


def sync(folder: Path) -> None:
    """Have a folder's names on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

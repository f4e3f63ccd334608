"""Fills one entry of the node cache: images decoded, their fingerprint taken, all of it on disk."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.tasks import stored
from arc_train.tasks.images import to_rgb
from arc_train.tasks.progress import Decoded
from arc_train.tasks.sources import Source
from arc_train.tasks.splits import SPLITS
from arc_train.tasks.threads import cores, in_order
from arc_train.tasks.transform import Transform

# What is stored together: finals train on both splits that a search uses, in one piece.
FILES = {"search": ("train", "val"), "test": ("test",)}
# How many images tell what all of them will take.
PROBED = 16


def hash_of(content: bytes) -> bytes:
    """An image's part in the fingerprint: the SHA-256 of its bytes as they are in the source."""
    return hashlib.sha256(content).digest()


class Fingerprint:
    """16 hex digits of a task's image files and labels, in order; nothing else matters to it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, image: bytes) -> None:
        """The next image, by its hash."""
        self._digest.update(image)

    def end(self, split: str, labels: NDArray[np.int64]) -> None:
        """A split is complete."""
        self._digest.update(split.encode() + labels.tobytes())

    def text(self) -> str:
        """The fingerprint."""
        return self._digest.hexdigest()[:16]


def build(source: Source, how: Transform, folder: Path, decoded: Decoded) -> None:
    """Write an entry's files into an empty folder, on all cores; on disk when this returns.

    decoded: called after each image.

    Raises:
        InputError: an image is wrong.
        OSError: there is no room, or the folder can't be written.
    """
    fingerprint, done, total = Fingerprint(), 0, sum(map(source.size, SPLITS))
    for name, splits in FILES.items():
        with stored.Writer(folder, name) as writer:
            for split in splits:
                for image in in_order(_jobs(source, split, how), cores()):
                    fingerprint.add(image.source)
                    writer.add(image.stored)
                    done += 1
                    decoded(done, total)
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


def probe(source: Source, how: Transform) -> tuple[float, float] | None:
    """Seconds of a core to decode an image, and its bytes, from the first ones to train on.

    None where images are drawn and not read.

    Raises:
        InputError: one of them can't be read.
    """
    if not isinstance(source, _Files):
        return None
    begin = time.thread_time()
    images = [_read(row, how).stored for row in islice(source.rows("train"), PROBED)]
    seconds = time.thread_time() - begin
    return seconds / len(images), sum(image.pixels.nbytes for image in images) / len(images)


@dataclass(frozen=True)
class _Decoded:
    """An image as it will be stored, and the hash of the bytes that it was made from."""

    stored: stored.Image
    source: bytes


@runtime_checkable
class _Files(Protocol):
    """A source whose images are files or the like, each of which any thread can read."""

    def rows(self, split: str) -> Iterable["_File"]: ...


class _File(Protocol):
    @property
    def where(self) -> str: ...
    def read(self) -> tuple[Image.Image, bytes]: ...


def _jobs(source: Source, split: str, how: Transform) -> Iterator[Callable[[], _Decoded]]:
    if isinstance(source, _Files):
        return (partial(_read, row, how) for row in source.rows(split))
    return (partial(_store, image, content, how) for image, content in source.images(split))


def _read(file: _File, how: Transform) -> _Decoded:
    image, content = file.read()
    return _store(to_rgb(image, file.where), content, how)


def _store(image: Image.Image, content: bytes, how: Transform) -> _Decoded:
    return _Decoded(stored.Image.of(np.asarray(how.apply(image))), hash_of(content))


def sync(folder: Path) -> None:
    """Have a folder's names on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Decoded images on disk: the pixels of some splits in one file, with a digest of each image.

Two files: `<name>.pixels`, all images one after the other, which is mapped into memory, and
`<name>.index`, stamped, with what is needed to tell whether the pixels are as they were written.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from arc_train.digest import SIZE, Damaged, digest, stamp, verify

Pixels = NDArray[np.uint8]
# Images [h, w, 3] mapped read-only: one array [N, S, S, 3] where all are square with the same
# side, else a list. With labels int64 [N].
Loaded = tuple[Pixels | list[Pixels], NDArray[np.int64]]


@dataclass(frozen=True)
class Image:
    """A decoded image, uint8 [h, w, 3], and the digest of its bytes."""

    pixels: Pixels
    digest: bytes

    @staticmethod
    def of(pixels: Pixels) -> "Image":
        """An image with its digest."""
        flat = np.ascontiguousarray(pixels)
        return Image(flat, digest(flat.data.cast("B")))


class Writer:
    """Writes images as they come, then labels; on disk when the block has ended."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / f"{name}.pixels").open("wb")
        self._index = folder / f"{name}.index"
        self._shapes: list[tuple[int, ...]] = []
        self._digests: list[bytes] = []
        self._labels: dict[str, NDArray[np.int64]] = {}

    def __enter__(self) -> Self:
        return self

    def add(self, image: Image) -> None:
        """The next image."""
        self._file.write(image.pixels.data)
        self._shapes.append(image.pixels.shape[:2])
        self._digests.append(image.digest)

    def end(self, split: str, labels: NDArray[np.int64]) -> None:
        """A split is complete: the images since the last one have these labels."""
        self._labels[split] = labels

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        if kind is None:
            content = io.BytesIO()
            arrays: dict[str, Any] = {
                "shapes": np.array(self._shapes, dtype=np.int64),
                "digests": np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, SIZE),
            }
            np.savez(content, **arrays | self._labels)
            write(self._index, content.getvalue())


@dataclass(frozen=True)
class Index:
    """What is on record of a file of pixels: shapes [N, 2], digests [N, 16], labels by split."""

    shapes: NDArray[np.int64]
    digests: NDArray[np.uint8]
    labels: dict[str, NDArray[np.int64]]

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where each image ends, in bytes."""
        return np.cumsum(3 * self.shapes.prod(axis=1))

    def rows(self, splits: Sequence[str]) -> slice:
        """The images of splits that follow each other in the file."""
        names = list(self.labels)
        sizes = [len(labels) for labels in self.labels.values()]
        first, last = names.index(splits[0]), names.index(splits[-1])
        return slice(sum(sizes[:first]), sum(sizes[: last + 1]))


def read_index(folder: Path, name: str) -> Index:
    """The index of a file of pixels that has the right size; its pixels aren't looked at.

    Raises:
        Damaged: the index isn't as it was written, or the pixels have another size.
        OSError: a file can't be read.
    """
    arrays = dict(np.load(io.BytesIO(read(folder / f"{name}.index"))))
    index = Index(arrays.pop("shapes"), arrays.pop("digests"), arrays)
    expected = int(index.ends[-1]) if len(index.shapes) else 0
    found = (folder / f"{name}.pixels").stat().st_size
    if found != expected:
        raise Damaged(f"{name}.pixels has {found:,} bytes, not {expected:,}")
    return index


def load(folder: Path, name: str, splits: Sequence[str], side: int) -> Loaded:
    """The images of some splits, every one verified, and their labels.

    side: of images that make one array.

    Raises:
        Damaged: an image isn't as it was written.
        OSError: a file can't be read.
    """
    index = read_index(folder, name)
    rows = index.rows(splits)
    flat = np.asarray(np.memmap(folder / f"{name}.pixels", np.uint8, mode="r"))
    ends = index.ends
    starts = np.concatenate([[0], ends[:-1]])
    bounds = list(zip(starts[rows].tolist(), ends[rows].tolist(), strict=True))
    known = index.digests[rows].tobytes()
    for number, (start, end) in enumerate(bounds):
        if digest(flat.data[start:end]) != known[SIZE * number : SIZE * (number + 1)]:
            raise Damaged(f"image {rows.start + number} of {name}.pixels isn't as it was written")
    labels = np.concatenate([index.labels[split] for split in splits])
    shapes = index.shapes[rows]
    if (shapes == side).all():
        here = flat[bounds[0][0] : bounds[-1][1]]
        return here.reshape(len(labels), side, side, 3), labels
    views = zip(bounds, shapes.tolist(), strict=True)
    return [flat[start:end].reshape(h, w, 3) for (start, end), (h, w) in views], labels


def pick(folder: Path, name: str, split: str, places: Sequence[int]) -> list[Pixels]:
    """Single images of a split, each verified.

    Raises:
        Damaged: one isn't as it was written.
        OSError: a file can't be read.
    """
    index = read_index(folder, name)
    rows = index.rows([split])
    ends, found = index.ends, []
    flat = np.asarray(np.memmap(folder / f"{name}.pixels", np.uint8, mode="r"))
    for place in (rows.start + place for place in places):
        height, width = index.shapes[place]
        pixels = flat[ends[place] - 3 * height * width : ends[place]]
        if digest(pixels.data) != index.digests[place].tobytes():
            raise Damaged(f"image {place} of {name}.pixels isn't as it was written")
        found.append(pixels.reshape(height, width, 3))
    return found


def read(path: Path) -> bytes:
    """The content of a stamped file.

    Raises:
        Damaged: it isn't as it was written.
        OSError: it can't be read.
    """
    try:
        return verify(path.read_bytes())
    except Damaged as error:
        raise Damaged(f"{path.name}: {error}") from None


def write(path: Path, content: bytes) -> None:
    """Write a stamped file, on disk when this returns."""
    with path.open("wb") as file:
        file.write(stamp(content))
        file.flush()
        os.fsync(file.fileno())

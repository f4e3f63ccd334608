"""Who may see which split: search gets train and val and nothing else; a final adds the test split.

`SearchData` has no way to the test images: not a flag, no attribute, no path. A cache entry reads
its test split only where a record of it is kept, which is what `FinalData` hands on.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_train.seeding import generator
from arc_train.tasks.cache import Entry
from arc_train.tasks.stored import Loaded

Pixels = Tensor | list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Split:
    """Images with labels int64 [N].

    images: uint8 [M, S, S, 3] (often memory-mapped); or, where crops are taken, a list of uint8
        [h, w, 3] with h, w >= `side`.
    rows: int64 [N], which of the images those of the split are; None where they are all.
    """

    images: Pixels
    labels: Tensor
    side: int = 0
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def cropped(self) -> bool:
        """Whether a batch shows a crop of each image, so that epochs differ."""
        return isinstance(self.images, list)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        if isinstance(self.images, Tensor):
            return len(self) * self.images[0].nbytes
        return sum(image.nbytes for image in self.images)

    def take(self, index: Tensor) -> "Split":
        """The images at `index` [N] alone; no pixel is read."""
        labels = self.labels[index]
        if isinstance(self.images, Tensor):
            rows = index if self.rows is None else self.rows[index]
            return Split(self.images, labels, self.side, rows)
        return Split([self.images[number] for number in index.tolist()], labels, self.side)

    def batch(
        self, index: Tensor, places: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """The images at `index` [...]: uint8 [..., S, S, 3], written into `out` where it is given.

        places: where to crop, [..., 3] in 0..1: top, left, and whether to mirror (below 1/2).
            Without it, and where images are whole, nothing is random: the centre is taken.
        """
        if isinstance(self.images, Tensor):
            return gather(self.images, index if self.rows is None else self.rows[index], out)
        if out is None:
            out = torch.empty(*index.shape, self.side, self.side, 3, dtype=torch.uint8)
        crops = out.view(-1, self.side, self.side, 3).numpy()
        drawn = None if places is None else places.reshape(-1, 3).tolist()
        for i, number in enumerate(index.flatten().tolist()):
            _crop(self.images[number], crops[i], drawn[i] if drawn else None)
        return out


def gather(rows: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """rows [N, ...] at index [A, B] -> [A, B, ...]; whole rows are copied, not elements.

    out: where to write them.
    """
    flat = None if out is None else out.view(-1, *rows.shape[1:])
    return torch.index_select(rows, 0, index.flatten(), out=flat).view(
        *index.shape, *rows.shape[1:]
    )


def _crop(image: NDArray[np.uint8], crop: NDArray[np.uint8], place: list[float] | None) -> None:
    """Fill a crop [side, side, 3] from an image: at a place, or from the middle."""
    side = len(crop)
    spare = [image.shape[0] - side, image.shape[1] - side]
    if place is None:
        top, left = round(spare[0] / 2), round(spare[1] / 2)  # as torchvision's CenterCrop
    else:
        top, left = int(place[0] * (spare[0] + 1)), int(place[1] * (spare[1] + 1))
    cut = image[top : top + side, left : left + side]
    if place is None or place[2] >= 0.5:
        crop[:] = cut
        return
    for channel in range(3):  # pixel by pixel, three bytes each, it would take four times as long
        crop[..., channel] = cut[:, ::-1, channel]


@dataclass(frozen=True)
class SearchData:
    """What searching may use."""

    train: Split
    val: Split


@dataclass(frozen=True)
class FinalData:
    """What a final uses: training images, and the test split behind a call that goes on record."""

    train: Split
    open_test: Callable[[], Split]


def search_data(entry: Entry, seed: int = 0) -> SearchData:
    """Training and validation images of a prepared task.

    seed: of the draw of training images, where the task limits them.
    """
    train, val = (_split(entry.load(name), entry.side) for name in ("train", "val"))
    return SearchData(sample(train, entry.task.limit, seed), val)


def sample(split: Split, limit: int | None, seed: int) -> Split:
    """At most `limit` images of a split: of each class its share, give or take one.

    The same ones for a seed, in the order that they have in the split.
    """
    count = len(split)
    if limit is None or limit >= count:
        return split
    shuffled = torch.randperm(count, generator=generator(seed, "limit"))
    by_class = shuffled[split.labels[shuffled].argsort(stable=True)]
    evenly = (2 * torch.arange(limit) + 1) * count // (2 * limit)
    return split.take(by_class[evenly].sort().values)


def final_data(entry: Entry, final_on: str, record: Callable[[], None]) -> FinalData:
    """Training images of a final and its test split.

    final_on: "train+val" (VTAB-1k's protocol) or "train".
    record: called each time before the test split is opened.
    """
    train = _split(entry.load(*final_on.split("+")), entry.side)
    return FinalData(train, lambda: _split(entry.open_test(record), entry.side))


def _split(loaded: Loaded, side: int) -> Split:
    images, labels = loaded
    if isinstance(images, list):
        return Split(images, torch.from_numpy(labels), side)
    with warnings.catch_warnings():
        # Nothing writes to the mapped file: batches are gathered into copies.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return Split(torch.from_numpy(images), torch.from_numpy(labels), side)

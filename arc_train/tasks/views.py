"""Who may see which split: search gets train and val and nothing else; a final adds the test split.

`SearchData` has no way to the test images: not a flag, no attribute, no path.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_train.tasks.cache import Entry


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, S, S, 3] (often memory-mapped) with labels int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def join(self, other: "Split") -> "Split":
        """Both splits, one after the other."""
        return Split(torch.cat([self.images, other.images]), torch.cat([self.labels, other.labels]))


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


def search_data(entry: Entry) -> SearchData:
    """train800 and val200 of a prepared task."""
    return SearchData(_split(entry, "train800"), _split(entry, "val200"))


def final_data(entry: Entry, final_on: str, record: Callable[[], None]) -> FinalData:
    """Training images of a final and its test split.

    final_on: "train+val" (VTAB-1k's protocol) or "train".
    record: called each time before the test split is opened.
    """
    train = _split(entry, "train800")
    if final_on == "train+val":
        train = train.join(_split(entry, "val200"))

    def open_test() -> Split:
        record()
        return _split(entry, "test")

    return FinalData(train, open_test)


def _split(entry: Entry, name: str) -> Split:
    images, labels = entry.load(name)
    return Split(_mapped(images), torch.from_numpy(labels))


def _mapped(images: NDArray[np.uint8]) -> Tensor:
    """A tensor over the mapped file. Nothing writes to it: batches are gathered into copies."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(images)

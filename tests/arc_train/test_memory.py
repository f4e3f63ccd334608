"""How much fits into a GPU's memory, told by a card that exists for these tests alone."""

import pytest
import torch
from torch import nn

from arc_train import memory
from arc_train.memory import SHARE, Memory, take_share

GPU = torch.device("cuda")
GIB = 1 << 30


class Card:
    """What torch says of a card's memory, in bytes.

    others: taken by other processes. cached: kept by torch for this one, beside what is allocated.
    """

    def __init__(self, total: int, allocated: int, others: int = 0, cached: int = 0) -> None:
        self.total, self.allocated, self.others, self.cached = total, allocated, others, cached
        self.peak, self.fraction = allocated, 1.0

    def takes(self, bytes_: int) -> None:
        """Something is allocated for a moment."""
        self.peak = max(self.peak, self.allocated + bytes_)

    def reset(self, *_: object) -> None:
        self.peak = self.allocated

    def limit(self, fraction: float, *_: object) -> None:
        self.fraction = fraction

    def put_in(self, patch: pytest.MonkeyPatch) -> "Card":
        """Have torch speak of this card."""
        free = self.total - self.others - self.allocated - self.cached
        for name, said in {
            "memory_allocated": lambda *_: self.allocated,
            "memory_reserved": lambda *_: self.allocated + self.cached,
            "max_memory_allocated": lambda *_: self.peak,
            "reset_peak_memory_stats": self.reset,
            "mem_get_info": lambda *_: (free, self.total),
            "get_per_process_memory_fraction": lambda *_: self.fraction,
            "set_per_process_memory_fraction": self.limit,
        }.items():
            patch.setattr(torch.cuda, name, said)
        return self


def test_as_many_trials_as_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(24 * GIB, GIB, others=2 * GIB, cached=GIB).put_in(monkeypatch)
    # A step takes 1 GiB whatever it does and 2 for each trial; 80 % of 21 GiB are free for it.
    step = lambda trials: card.takes((1 + 2 * trials) * GIB)  # noqa: E731
    assert Memory(GPU).trials_that_fit(step, 16) == int((SHARE * 21 - 1) / 2) == 7
    assert Memory(GPU).trials_that_fit(step, 4) == 4
    assert Memory(GPU).trials_that_fit(lambda trials: card.takes(30 * trials * GIB), 16) == 1


def test_two_packs_on_a_card_share_its_memory_by_their_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(24 * GIB, GIB).put_in(monkeypatch)
    step = lambda trials: card.takes(trials * GIB)  # noqa: E731
    take_share(1)
    assert Memory(GPU).trials_that_fit(step, 64) == int(SHARE * 23)
    take_share(0.5)
    assert Memory(GPU).trials_that_fit(step, 64) == int(SHARE * 11), "whoever comes first"
    beside = Card(24 * GIB, GIB, others=16 * GIB).put_in(monkeypatch)
    take_share(0.5)
    step = lambda trials: beside.takes(trials * GIB)  # noqa: E731
    assert Memory(GPU).trials_that_fit(step, 64) == int(SHARE * 7), "no more than there is"


def test_an_evaluations_batch_is_what_the_free_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(10 * GIB, 0).put_in(monkeypatch)
    evaluate = lambda images: card.takes(images * GIB // 16)  # noqa: E731
    assert Memory(GPU).images_that_fit(evaluate, 16, 256) == int(SHARE * 160)
    assert Memory(GPU).images_that_fit(evaluate, 16, 100) == 100
    assert Memory(GPU).images_that_fit(lambda images: card.takes(0), 16, 256) == 256


def test_the_peak_is_that_of_all_whatever_was_measured_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(24 * GIB, GIB).put_in(monkeypatch)
    measured = Memory(GPU)
    card.takes(9 * GIB)
    measured.trials_that_fit(lambda trials: card.takes(trials * GIB), 16)
    assert measured.peak == 10 * GIB
    card.takes(12 * GIB)
    assert measured.peak == 13 * GIB
    assert Memory(GPU).peak == GIB, "of its own pack alone"


def test_on_a_cpu_passes_are_of_a_fixed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Memory(torch.device("cpu"))
    assert cpu.peak is None
    assert cpu.images_that_fit(lambda images: None, 16, 256) == 64
    assert cpu.images_that_fit(lambda images: None, 2000, 256) == 1
    layer = nn.Linear(1000, 1)
    step = lambda trials: layer(torch.ones(trials, 1000)).sum()  # noqa: E731
    monkeypatch.setattr(memory, "CPU_BYTES", 5 * memory.saved_bytes(lambda: step(1)))
    assert cpu.trials_that_fit(step, 16) == 5

"""How the trials of a study are divided: into the rounds of its search, and into packs."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from arc_train.hyperparameters.searchers import LEARNING
from arc_train.methods import METHODS

# float32: the weight, its gradient, two moments of AdamW.
BYTES_PER_WEIGHT = 16
# Most trials in a pack; those that train on features computed once cost next to nothing each.
TRIALS_PER_PACK, HEADS_PER_PACK = 16, 64
# GB that a pack's trained weights, gradients and optimiser state may take.
MEMORY = 8.0
ROUNDS = 2  # of a search, where nothing else is asked for
T = TypeVar("T")


def proposals(algorithm: str, count: int, rounds: int) -> list[int]:
    """How many of `count` configurations are proposed at a time; learning needs results."""
    parts = min(count, rounds) if algorithm in LEARNING else 1
    return [len(part) for part in _even(range(count), parts)]


def split(trials: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Trials in packs of at most `size`, as even as possible: halving wants company."""
    return _even(trials, -(-len(trials) // size))


def most_trials(method: str, weights: int, size: int | None = None, memory: float = MEMORY) -> int:
    """Most trials in a pack: `size` or what is usual, if their memory in GB allows it.

    weights: that one trial trains, without the head.
    """
    usual = HEADS_PER_PACK if METHODS[method].trains == "head" else TRIALS_PER_PACK
    return max(1, min(size or usual, int(memory * 1e9 / (BYTES_PER_WEIGHT * max(1, weights)))))


def _even(things: Sequence[T], parts: int) -> Iterator[Sequence[T]]:
    for i in range(parts):
        yield things[i * len(things) // parts : (i + 1) * len(things) // parts]

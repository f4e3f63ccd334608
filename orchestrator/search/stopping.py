"""Rules for stopping trials replayed on recorded curves: what do they save, what do they cost?

A rule stops trials by what validation says at its rungs, as in a sweep; among those that reach the
last epoch the selection rule of sweeps chooses. The judge is the test accuracy of the chosen trial,
beside that of the trial chosen where none is stopped: of a search of sixteen trials in two packs,
as sweeps have it by default, and of eight in one pack, both drawn anew many times from each study.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arc_train import recipe
from arc_train.errors import InputError
from orchestrator.search.curves import Curves, Finished

PACK, DRAWS, RESAMPLED = 8, 32, 2000


class Rule(Protocol):
    """Stops trials at its rungs."""

    def rungs(self, epochs: int) -> list[int]:
        """The epochs after which it stops trials, of so many."""
        ...

    def keep(self, trials: list[int], finished: Finished, epoch: int, began: int) -> list[int]:
        """Those that go on, of a pack that began with so many."""
        ...


@dataclass(frozen=True)
class Halving:
    """The best 1/eta go on, at start, start * eta, ... percent of the epochs.

    most: rungs, at most. Where a study has 100 epochs, as by default, percents are epochs.
    """

    start: float
    eta: int
    most: int | None = None

    def __str__(self) -> str:
        rungs = "" if self.most is None else f",{self.most}"
        return f"{self.start:g},{self.eta}{rungs}"

    def rungs(self, epochs: int) -> list[int]:
        """As a sweep has them."""
        start = max(1, round(self.start * epochs / 100))
        return recipe.Halving(start, self.eta, self.most).rungs(epochs)

    def keep(self, trials: list[int], finished: Finished, epoch: int, began: int) -> list[int]:
        """The first of the ranking, by accuracy and then loss."""
        return finished.ranking(trials, epoch)[: max(1, len(trials) // self.eta)]


@dataclass(frozen=True)
class Walk:
    """One pack under a rule.

    left: the trials that reached the last epoch. stretches: how many trials were alive, and for how
    many epochs, one after the other.
    """

    left: list[int]
    stretches: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Cost:
    """What a rule costs over studies, none stopped being 0 points and 100 %.

    lost, lost_in_one: mean points of test accuracy, of sixteen trials in two packs and of eight in
    one, with the interval that has 95 % and the study that lost most. epochs: percent of the
    trial-epochs spent. by_study: its name -> points lost of sixteen and of eight.
    """

    rule: str
    lost: float
    interval: tuple[float, float]
    worst: float
    lost_in_one: float
    interval_in_one: tuple[float, float]
    worst_in_one: float
    epochs: float
    by_study: dict[str, tuple[float, float]]


def replay_stopping(curves: Sequence[Curves], rules: Sequence[Halving]) -> list[Cost]:
    """What each rule costs on studies.

    Raises:
        InputError: a study has too few trials for two packs; names it.
    """
    for each in curves:
        if len(each.configs) < 2 * PACK:
            raise InputError(
                f"{each.study} has {len(each.configs)} recorded trials; {2 * PACK} are needed"
            )
    finished = [Finished.of(each) for each in curves]
    tasks = [each.study.task for each in curves]
    found = []
    for rule in rules:
        two, one, epochs = np.array([judge(rule, each) for each in finished]).T
        found.append(
            Cost(
                rule=str(rule),
                lost=float(two.mean()),
                interval=interval(two, tasks),
                worst=float(two.max()),
                lost_in_one=float(one.mean()),
                interval_in_one=interval(one, tasks),
                worst_in_one=float(one.max()),
                epochs=float(epochs.mean()),
                by_study={
                    str(each.study): (float(of_two), float(of_one))
                    for each, of_two, of_one in zip(curves, two, one, strict=True)
                },
            )
        )
    return found


def judge(rule: Rule, finished: Finished) -> tuple[float, float, float]:
    """Means over draws: points lost in two packs, and in the first alone; percent of its epochs."""
    rows = []
    for one, other in drawn(len(finished.test)):
        first = walk(rule, finished, one)
        both = first.left + walk(rule, finished, other).left
        spent = sum(alive * epochs for alive, epochs in first.stretches)
        share = 100 * spent / len(one) / finished.epochs
        rows.append((finished.gap(one + other, both), finished.gap(one, first.left), share))
    two, in_one, epochs = np.mean(rows, axis=0).tolist()
    return two, in_one, epochs


def drawn(count: int) -> list[tuple[list[int], list[int]]]:
    """Pairs of packs of a study's trials."""
    orders = (np.random.default_rng([7, draw]).permutation(count).tolist() for draw in range(DRAWS))
    return [(order[:PACK], order[PACK : 2 * PACK]) for order in orders]


def walk(rule: Rule, finished: Finished, trials: list[int]) -> Walk:
    """A pack of these trials to its end."""
    left, since, stretches = trials, 0, []
    for rung in rule.rungs(finished.epochs):
        stretches.append((len(left), rung - since))
        left, since = rule.keep(left, finished, rung, len(trials)), rung
    return Walk(left, (*stretches, (len(left), finished.epochs - since)))


def interval(values: NDArray[np.float64], tasks: Sequence[str]) -> tuple[float, float]:
    """95 % of the mean, by a bootstrap of tasks and of the studies of each."""
    groups: dict[str, list[float]] = defaultdict(list)
    for value, task in zip(values.tolist(), tasks, strict=True):
        groups[task].append(value)
    draws, of_task = np.random.default_rng(0), [np.array(group) for group in groups.values()]
    means = []
    for _ in range(RESAMPLED):
        picked = [of_task[i] for i in draws.integers(len(of_task), size=len(of_task))]
        means.append(np.concatenate([draws.choice(some, len(some)) for some in picked]).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)

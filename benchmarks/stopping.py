"""What a rule for stopping trials saves, and what it costs in test accuracy.

    python benchmarks/stopping.py FOLDER...   # of curves, see record_curves.py

`arc-sweep replay FOLDER` judges halving; here are other rules beside it, judged alike, and what all
of them take on a GPU. Intervals are over tasks and their studies, drawn with replacement. At last
the rule is chosen on all tasks but one and judged on that one: the one that loses least of those
that spend little enough, and the one whose worst study loses least.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.stats import norm

from orchestrator.cost import rates
from orchestrator.search import stopping
from orchestrator.search.curves import Curves, Finished
from orchestrator.search.stopping import DRAWS, drawn, interval, walk

EPOCHS, IMAGES, VALIDATED = 100, 800, 200  # of a study on VTAB-1k: for seconds on a card
MOST_SPENT = 35.0  # percent of trial-epochs
HEADS = ("linear", "mlp")
NOW, BEFORE = "halving 20 %, eta 2", "halving 5 %, eta 2, 2 rungs"
Array = NDArray[np.float64]
TIMINGS = rates.Timings(
    **yaml.safe_load(Path(rates.__file__).with_name("timings.yaml").read_text())
)


class Rule(stopping.Rule, Protocol):
    """Stops trials at its rungs."""

    @property
    def looks(self) -> float:
        """Over how many percent of the epochs it looks back from a rung: those are validated."""
        ...


@dataclass(frozen=True)
class Halving(stopping.Halving):
    """As sweeps have it, or by other figures.

    looks: the mean over so many percent of the epochs is looked at. by_loss: the lower loss is
    better, instead of the higher accuracy.
    """

    looks: float = 0
    by_loss: bool = False

    def keep(self, trials: list[int], finished: Finished, epoch: int, began: int) -> list[int]:
        """The first of the ranking."""
        if self.by_loss:
            ranking = sorted(trials, key=lambda trial: finished.loss[trial, epoch - 1])
        else:
            ranking = finished.ranking(trials, epoch, back(self.looks, finished))
        return ranking[: max(1, len(trials) // self.eta)]


@dataclass(frozen=True)
class Racing:
    """Stops what the same images tell from the leader: more than `errors` standard errors below.

    The difference is taken image by image (with accuracies that is McNemar's test in its normal
    form; races by paired tests are Maron and Moore's, NIPS 1993). From `start` percent on, every 5.

    bounded: after a part p of the epochs at most start / p of the pack goes on, the best of it.
    least: of that bound, the best 1 / least go on whatever the test says.
    """

    start: float
    errors: float
    bounded: bool = True
    least: float = math.inf
    looks: float = 0

    def rungs(self, epochs: int) -> list[int]:
        """Every 5 percent."""
        marks = {max(1, round(mark * epochs / 100)) for mark in np.arange(self.start, 100, 5)}
        return sorted(marks - {epochs})

    def keep(self, trials: list[int], finished: Finished, epoch: int, began: int) -> list[int]:
        """The leader, and what it isn't told from."""
        ranking = finished.ranking(trials, epoch, back(self.looks, finished))
        last = slice(epoch - min(epoch, back(self.looks, finished)), epoch)
        credit = 100 * finished.right[ranking, last].mean(axis=1)
        ahead = credit[0] - credit
        errors = ahead.std(axis=1) / (ahead.shape[1] - 1) ** 0.5
        alike = ahead.mean(axis=1) <= self.errors * errors * (1 + 1e-9)
        bound = began * self.start * finished.epochs / 100 / epoch
        most = max(1, int(bound)) if self.bounded else len(trials)
        least = max(1, int(bound / self.least))
        return [
            trial for place, trial in enumerate(ranking[:most]) if place < least or alike[place]
        ]


@dataclass(frozen=True)
class Extrapolating:
    """Stops what is unlikely to end above the leader, by a + b log(epoch).

    Fitted by least squares to the later half of each trial's epochs so far; a trial stops where its
    forecast is above the best one with a probability below `chance`. At every 5 percent.
    """

    start: float
    chance: float
    looks: float = 5

    def rungs(self, epochs: int) -> list[int]:
        """As racing has them, from the third epoch on."""
        return [rung for rung in Racing(self.start, 0).rungs(epochs) if rung >= 3]

    def keep(self, trials: list[int], finished: Finished, epoch: int, began: int) -> list[int]:
        """The best forecast, and those that may end above it."""
        first = min(epoch // 2, epoch - 3)
        at = np.log(np.arange(first + 1, epoch + 1))
        x = np.stack([np.ones_like(at), at], axis=1)
        y = finished.accuracy[trials, first:epoch].T
        inverse = np.linalg.inv(x.T @ x)
        weights = inverse @ x.T @ y
        end = np.array([1, np.log(finished.epochs)])
        forecast = np.minimum(end @ weights, 100)
        residual = ((y - x @ weights) ** 2).sum(axis=0) / (len(at) - 2) + 0.25
        deviation = np.sqrt(residual * (1 / len(at) + end @ inverse @ end))
        lead = int(forecast.argmax())
        chance = norm.sf((forecast[lead] - forecast) / np.hypot(deviation, deviation[lead]))
        return [t for i, t in enumerate(trials) if i == lead or chance[i] >= self.chance]


def back(percent: float, finished: Finished) -> int:
    """So many percent in epochs, at least one."""
    return max(1, round(percent * finished.epochs / 100))


RULES: dict[str, Rule] = {}
for _start, _eta in ((5, 2), (10, 3), (10, 2), (15, 2), (20, 3), (20, 2)):
    RULES[f"halving {_start} %, eta {_eta}"] = Halving(_start, _eta)
for _start, _eta, _most in ((5, 2, 2), (5, 4, 1), (10, 2, 2), (10, 4, 1)):
    _rungs = f"{_most} rung{'s' if _most > 1 else ''}"
    RULES[f"halving {_start} %, eta {_eta}, {_rungs}"] = Halving(_start, _eta, most=_most)
for _eta in (3, 2):
    RULES[f"halving 10 %, eta {_eta}, by loss"] = Halving(10, _eta, by_loss=True)
    RULES[f"halving 10 %, eta {_eta}, mean of 5 %"] = Halving(10, _eta, looks=5)
for _start, _errors in ((5, 1), (10, 0.5), (10, 1), (10, 2), (20, 1)):
    RULES[f"racing {_start} %, {_errors} errors"] = Racing(_start, _errors)
RULES["racing 10 %, 1 errors, mean of 5 %"] = Racing(10, 1, looks=5)
RULES["racing 10 %, 2 errors, unbounded"] = Racing(10, 2, bounded=False)
for _start, _errors in ((8, 1), (10, 1), (10, 2)):
    RULES[f"racing {_start} %, {_errors} errors, at least 1/3"] = Racing(_start, _errors, least=3)
for _start, _chance in ((10, 0.05), (10, 0.3), (20, 0.2)):
    RULES[f"extrapolating {_start} %, {_chance}"] = Extrapolating(_start, _chance)


def judge(rule: Rule, finished: Finished) -> tuple[float, float, float, float]:
    """As `arc-sweep replay` judges, and the percent of the seconds that a pack spends."""
    spent = np.mean([seconds(rule, finished, one) for one, _ in drawn(len(finished.test))])
    return *stopping.judge(rule, finished), float(spent)


def seconds(rule: Rule, finished: Finished, trials: list[int]) -> float:
    """Of a pack on the card that was timed, in percent of those without a rule."""
    validation = VALIDATED / TIMINGS.evaluated
    *before, (last, epochs) = walk(rule, finished, trials).stretches
    spent = training(last, epochs / finished.epochs) + last * validation
    for alive, epochs in before:
        spent += training(alive, epochs / finished.epochs)
        spent += alive * validation * max(1, rule.looks)
    whole = training(len(trials), 1) + len(trials) * validation
    return 100 * spent / whole


def training(alive: int, share: float) -> float:
    """Seconds that a share of the epochs takes on the card that was timed."""
    return share * EPOCHS * IMAGES * alive * TIMINGS.per_image(alive)


def main() -> None:
    """Print what every rule costs, and what a rule costs that is chosen on other tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    paths = sorted(path for folder in options.folders for path in folder.glob("*.npz"))
    curves = [Curves.read(path) for path in paths]
    finished = [Finished.of(each) for each in curves]
    tasks = np.array([each.study.task for each in curves])
    judged = {name: np.array([judge(rule, f) for f in finished]) for name, rule in RULES.items()}
    print(f"{len(curves)} studies of {len(set(tasks))} tasks, {DRAWS} draws of each")
    head = f"{'lost of 2 packs, 95 %':>23}{'worst':>7}{'of one, 95 %':>24}{'worst':>7}"
    print(f"{'':38}{head}{'epochs':>8}{'seconds':>9}")
    for name, rows in sorted(judged.items(), key=lambda item: item[1][:, 2].mean()):
        print(f"{name:38}{costs(rows, tasks)}")
    print(f"{f'{NOW} less {BEFORE}':38}{costs(judged[NOW] - judged[BEFORE], tasks)}")
    heads = np.array([each.study.method in HEADS for each in curves])
    real = np.array([not each.study.backbone.startswith("arc_pico") for each in curves])
    for name, group in (
        (f"{NOW}: heads", heads),
        (f"{NOW}: toy adapters", ~heads & ~real),
        (f"{NOW}: adapters of real weights", ~heads & real),
    ):
        if group.any():
            print(f"{name:38}{costs(judged[NOW][group], tasks[group])}")
    if len(set(tasks)) > 1:
        _print_held_out(judged, tasks)
    print(f"{'lost of 2 packs, and of one':48}{'now':>7}{'before':>7}{'now':>7}{'before':>7}")
    for each, now, before in zip(curves, judged[NOW], judged[BEFORE], strict=True):
        print(f"{each.study!s:48}{now[0]:7.2f}{before[0]:7.2f}{now[1]:7.2f}{before[1]:7.2f}")


def _print_held_out(judged: dict[str, Array], tasks: NDArray[np.str_]) -> None:
    """What rules cost that are chosen on all tasks but one and judged on that one."""

    def lost(rows: Array) -> float:
        return float(rows[:, 0].mean()) if rows[:, 2].mean() <= MOST_SPENT else math.inf

    def worst(rows: Array) -> float:
        return float(rows[:, 0].max())

    for name, least in (("the best on the other tasks", lost), ("the least worst there", worst)):
        held_out, picked = np.zeros((len(tasks), 4)), []
        for task in dict.fromkeys(tasks):
            best = min(judged, key=lambda rule: least(judged[rule][tasks != task]))
            picked.append(f"{task}: {best}")
            held_out[tasks == task] = judged[best][tasks == task]
        print(f"{name:38}{costs(held_out, tasks)}")
        print("; ".join(picked))


def costs(rows: Array, tasks: Sequence[str]) -> str:
    """A line of the table."""
    found = ""
    for lost in rows[:, 0], rows[:, 1]:
        low, high = interval(lost, tasks)
        found += f"{lost.mean():8.2f} [{low:5.2f}, {high:5.2f}]{lost.max():7.2f}"
    return f"{found}{rows[:, 2].mean():8.1f}{rows[:, 3].mean():9.1f}"


if __name__ == "__main__":
    main()

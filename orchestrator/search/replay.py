"""Search algorithms replayed on a table of finished trials: what would they have found, how soon?

Each (task, method) of the table is a study; the searchers that run sweeps propose its trials, the
table answers, the selection rule of sweeps picks the winner. What the portfolio learns from are the
other tasks' trials: everything about the task under test is left out.
"""

import math
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from arc_train.errors import InputError
from arc_train.hyperparameters.searchers import SEARCHERS, Observation, Problem
from arc_train.hyperparameters.space import Config, Space, features
from arc_train.methods import METHODS, recommended
from arc_train.packing import proposals
from arc_train.seeding import seed_of
from orchestrator.search.selection import Candidate, select
from orchestrator.search.trial_table import Cell, accuracy_of, observation

RANDOM_SEEDS = 100  # random search is cheap to repeat, and its luck should not decide
QUARTER = "quarter"


@dataclass(frozen=True)
class Regret:
    """Validation accuracy below the best of the full grid, in points, by budget.

    cells: over how many it is the mean. grid: mean number of their configurations. random: the
    regret of random search.
    """

    method: str
    cells: int
    grid: float
    regret: Mapping[str, float]
    random: Mapping[str, float]


class Replayed(NamedTuple):
    """A cell with the regrets of the algorithm and of random search, by budget."""

    cell: Cell
    found: dict[str, float]
    chance: dict[str, float]


def replay(cells: list[Cell], algorithm: str, trials: int, seeds: int, rounds: int) -> list[Regret]:
    """Validation regret against the full grid, in points, per method and over all cells.

    Budgets are 4, 8, 16, ... below `trials`, `trials` itself, and a quarter of each cell's grid.
    Cells with no more configurations than the smallest budget are left out: nothing is searched.
    rounds: of algorithms that learn, in how many parts they propose a budget.
    """
    budgets = [b for b in (4 * 2**i for i in range(20)) if b < trials] + [trials]
    searched = [cell for cell in cells if len(cell.trials) > budgets[0]]
    if not searched:
        raise InputError(f"no method of the table has more than {budgets[0]} trials on a task")
    work = partial(_study, cells, budgets=budgets, rounds=rounds)
    with ProcessPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool:
        found = pool.map(partial(work, algorithm=algorithm, seeds=seeds), searched)
        chance = pool.map(partial(work, algorithm="random", seeds=RANDOM_SEEDS), searched)
        rows = list(map(Replayed, searched, found, chance))
    by_method: dict[str, list[Replayed]] = {}
    for row in rows:
        by_method.setdefault(row.cell.method, []).append(row)
    return [_summary(name, some) for name, some in [*sorted(by_method.items()), ("all", rows)]]


def _study(
    cells: list[Cell],
    cell: Cell,
    *,
    algorithm: str,
    seeds: int,
    budgets: list[int],
    rounds: int,
) -> dict[str, float]:
    """Mean regret of one cell over seeds, by budget."""
    others = related(cells, cell)
    worst = min(accuracy_of(trial) for trial in cell.done)

    def regret(budget: int, seed: int) -> float:
        winner = choose(cell, others, algorithm, budget, seed, rounds)
        return cell.best - (accuracy_of(winner) if winner else worst)

    sizes = {str(budget): budget for budget in budgets}
    sizes[QUARTER] = max(1, len(cell.trials) // 4)
    return {
        name: fmean(regret(size, seed) for seed in range(seeds)) for name, size in sizes.items()
    }


def related(cells: list[Cell], cell: Cell) -> list[list[Observation]]:
    """What a search of a cell may learn from: the same method's trials on the other tasks."""
    return [
        other.history()
        for other in cells
        if other.method == cell.method and other.task != cell.task
    ]


def choose(
    cell: Cell, others: list[list[Observation]], algorithm: str, budget: int, seed: int, rounds: int
) -> Candidate | None:
    """The trial that a search of so many trials ends with; None if all of its diverged."""
    space = cell.space
    first = recommended(cell.method).first if cell.method in METHODS else {}
    left = list(cell.trials)
    seen: list[Candidate] = []
    budget = min(budget, len(left))
    for count in proposals(algorithm, budget, rounds):
        own = [observation(trial) for trial in seen]
        problem = Problem(space, seed_of(seed, cell.task, cell.method), first, own, others)
        for config in SEARCHERS[algorithm](problem, count):
            # A table may lack combinations: then the nearest that it has answers.
            trial = min(left, key=partial(_distance, space, config))
            left.remove(trial)
            seen.append(trial)
    return select(seen)


def _summary(method: str, rows: list[Replayed]) -> Regret:
    budgets = rows[0].found
    return Regret(
        method=method,
        cells=len(rows),
        grid=fmean(len(row.cell.trials) for row in rows),
        regret={budget: fmean(row.found[budget] for row in rows) for budget in budgets},
        random={budget: fmean(row.chance[budget] for row in rows) for budget in budgets},
    )


def _distance(space: Space, config: Config, trial: Candidate) -> float:
    if trial.config == config:
        return -1.0
    points = features(space, config), features(space, trial.config)
    return math.dist(*points)

"""Search algorithms replayed on a table of finished trials: what would they have found, how soon?

Each (task, method) of the table is a study; the searchers that run sweeps propose its trials, the
table answers, the selection rule of sweeps picks the winner. What the portfolio learns from are the
other tasks' trials: everything about the task under test is left out.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from threadpoolctl import threadpool_limits

from arc_train.errors import InputError
from arc_train.methods import METHODS, recommended
from arc_train.seeding import seed_of
from orchestrator.plan import proposals
from orchestrator.search.searchers import SEARCHERS, Observation, Problem
from orchestrator.search.selection import Candidate, select
from orchestrator.search.space import Choice, Space, features
from orchestrator.store.result import Config, Value

COLUMNS = ("task", "method", "rank", "lr", "wd", "other", "val_loss", "val_accuracy")
GAP_COLUMNS = ("task", "method", "test_accuracy_last", "test_accuracy_best_epoch")
RANDOM_SEEDS = 100  # random search is cheap to repeat, and its luck should not decide
QUARTER = "quarter"


@dataclass(frozen=True)
class Cell:
    """The finished trials of one method on one task, as candidates of a search."""

    task: str
    method: str
    trials: tuple[Candidate, ...]

    @property
    def space(self) -> Space:
        """Every value that occurs."""
        names = self.trials[0].config
        values = {name: {trial.config[name] for trial in self.trials} for name in names}
        return {name: Choice(tuple(sorted(found, key=_order))) for name, found in values.items()}

    @property
    def best(self) -> float:
        """Highest validation accuracy of the whole grid."""
        return max(accuracy_of(trial) for trial in self.done)

    @property
    def done(self) -> list[Candidate]:
        """Those that did not diverge."""
        return [trial for trial in self.trials if trial.status == "done"]

    def history(self) -> list[Observation]:
        """The trials as a searcher sees them."""
        return [_tried(trial) for trial in self.trials]


def read(path: str | Path) -> list[Cell]:
    """The table's cells.

    Raises:
        InputError: it can't be read, lacks a column, or has a line that is wrong; names the line.
    """
    cells: dict[tuple[str, str], dict[str, Candidate]] = {}
    for where, row in _rows(path, COLUMNS):
        config: dict[str, Value] = {"lr": _number(row["lr"], where, "lr")}
        config["weight_decay"] = _number(row["wd"], where, "wd")
        if row["rank"]:
            config["rank"] = _number(row["rank"], where, "rank")
        config |= _other(row["other"], where)
        accuracy = _number(row["val_accuracy"], where, "val_accuracy", nothing=True)
        found = cells.setdefault((row["task"], row["method"]), {})
        key = json.dumps(config, sort_keys=True)
        if key in found:
            raise InputError(f"{where}: this configuration stands in the table already: {key}")
        if found and next(iter(found.values())).config.keys() != config.keys():
            raise InputError(f"{where}: other hyperparameters than the lines before it: {key}")
        found[key] = Candidate(
            id=f"{len(found):06}",
            kind="search",
            config=config,
            seed=0,
            status="done" if math.isfinite(accuracy) else "diverged",
            val_accuracy=accuracy,
            val_loss=_number(row["val_loss"], where, "val_loss", nothing=True),
            trainable_params=int(config.get("rank", 0)),  # more of them with a larger rank
        )
    table = [Cell(*key, tuple(found.values())) for key, found in cells.items()]
    for cell in table:
        if not cell.done:
            raise InputError(
                f"{path}: no trial of {cell.method} on {cell.task} has a validation accuracy"
            )
    return table


def gaps(path: str | Path) -> list[dict[str, Any]]:
    """What choosing the epoch on the test set adds, per method: means over the table's tasks.

    path: CSV of finals with accuracies in percent of the last and of the best test epoch.

    Raises:
        InputError: as `read`.
    """
    of_method: dict[str, list[tuple[float, float]]] = {}
    for where, row in _rows(path, GAP_COLUMNS):
        last, best = (_number(row[name], where, name) for name in GAP_COLUMNS[2:])
        of_method.setdefault(row["method"], []).append((last, best))
    return [
        {
            "method": method,
            "tasks": len(pairs),
            "last": fmean(last for last, _ in pairs),
            "best_epoch": fmean(best for _, best in pairs),
            "gap": fmean(best - last for last, best in pairs),
            "largest_gap": max(best - last for last, best in pairs),
        }
        for method, pairs in sorted(of_method.items())
    ]


def replay(
    cells: list[Cell], algorithm: str, trials: int, seeds: int, rounds: int
) -> list[dict[str, Any]]:
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
        rows = list(zip(searched, found, chance, strict=True))
    by_method: dict[str, list[Any]] = {}
    for row in rows:
        by_method.setdefault(row[0].method, []).append(row)
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
        own = [_tried(trial) for trial in seen]
        problem = Problem(space, seed_of(seed, cell.task, cell.method), first, own, others)
        for config in SEARCHERS[algorithm](problem, count):
            # A table may lack combinations: then the nearest that it has answers.
            trial = min(left, key=partial(_distance, space, config))
            left.remove(trial)
            seen.append(trial)
    return select(seen)


def _summary(name: str, rows: list[Any]) -> dict[str, Any]:
    return {
        "method": name,
        "cells": len(rows),
        "grid": fmean(len(cell.trials) for cell, _, _ in rows),
        "regret": {key: fmean(found[key] for _, found, _ in rows) for key in rows[0][1]},
        "random": {key: fmean(chance[key] for _, _, chance in rows) for key in rows[0][2]},
    }


def accuracy_of(trial: Candidate) -> float:
    """The validation accuracy of a table's trial, in percent; NaN where it diverged."""
    assert trial.val_accuracy is not None  # `read` gives every trial one
    return trial.val_accuracy


def _tried(trial: Candidate) -> Observation:
    return Observation(trial.config, trial.val_accuracy if trial.status == "done" else None)


def _distance(space: Space, config: Config, trial: Candidate) -> float:
    if trial.config == config:
        return -1.0
    points = features(space, config), features(space, trial.config)
    return math.dist(*points)


def _rows(path: str | Path, columns: Iterable[str]) -> Iterable[tuple[str, dict[str, str]]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} lacks column {', '.join(missing)}; it must have {', '.join(columns)}"
                )
            empty = True
            for row in reader:
                where, empty = f"{path}:{reader.line_num}", False
                if None in row or None in row.values():
                    raise InputError(f"{where}: not as many values as the header has columns")
                yield where, row
            if empty:
                raise InputError(f"{path} has no lines below its header")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"can't read table {path}: {error}") from error


def _number(text: str, where: str, column: str, nothing: bool = False) -> float:
    """A number; NaN for an empty field where `nothing` allows it."""
    if nothing and not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {column} must be a number, found {text!r}") from None
    if not (nothing or math.isfinite(value)):
        raise InputError(f"{where}: {column} must be finite, found {text!r}")
    return value


def _other(text: str, where: str) -> Mapping[str, Value]:
    """Further hyperparameters from a JSON object of numbers, names and truth values."""
    try:
        other = json.loads(text or "{}")
    except ValueError as error:
        raise InputError(f"{where}: other must be a JSON object, found {text!r}") from error
    if not isinstance(other, dict) or not all(
        isinstance(v, float | int | str) for v in other.values()
    ):
        raise InputError(f"{where}: other must be a flat JSON object, found {text!r}")
    return other


def _order(value: Value) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")

"""Tables of finished trials from elsewhere, for `arc-sweep replay`: CSV files, read and checked."""

import csv
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from arc_train.errors import InputError
from arc_train.hyperparameters.searchers import Observation
from arc_train.hyperparameters.space import Choice, Space, Value
from orchestrator.search.selection import Candidate

COLUMNS = ("task", "method", "rank", "lr", "wd", "other", "val_loss", "val_accuracy")
GAP_COLUMNS = ("task", "method", "test_accuracy_last", "test_accuracy_best_epoch")


@dataclass(frozen=True)
class Cell:
    """The finished trials of one method on one task, as candidates of a search.

    space: every value that occurs in the method's trials, on whatever task.
    """

    task: str
    method: str
    trials: tuple[Candidate, ...]
    space: Space

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
        return [observation(trial) for trial in self.trials]


@dataclass(frozen=True)
class Gap:
    """What choosing the epoch on the test set adds to a method's accuracy, in points.

    last, best_epoch: mean test accuracies over `tasks` tasks, in percent.
    """

    method: str
    tasks: int
    last: float
    best_epoch: float
    gap: float
    largest_gap: float


def read(path: str | Path) -> list[Cell]:
    """The table's cells.

    Raises:
        InputError: it can't be read, lacks a column, or has a line that is wrong; names the line.
    """
    cells: dict[tuple[str, str], dict[str, Candidate]] = {}
    names: dict[str, Collection[str]] = {}  # of each method's hyperparameters
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
        if names.setdefault(row["method"], config.keys()) != config.keys():
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
    spaces = {
        method: _space(
            [t for key, found in cells.items() if key[1] == method for t in found.values()]
        )
        for method in names
    }
    table = [
        Cell(task, method, tuple(found.values()), spaces[method])
        for (task, method), found in cells.items()
    ]
    for cell in table:
        if not cell.done:
            raise InputError(
                f"{path}: no trial of {cell.method} on {cell.task} has a validation accuracy"
            )
    return table


def gaps(path: str | Path) -> list[Gap]:
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
        Gap(
            method=method,
            tasks=len(pairs),
            last=fmean(last for last, _ in pairs),
            best_epoch=fmean(best for _, best in pairs),
            gap=fmean(best - last for last, best in pairs),
            largest_gap=max(best - last for last, best in pairs),
        )
        for method, pairs in sorted(of_method.items())
    ]


def accuracy_of(trial: Candidate) -> float:
    """The validation accuracy of a table's trial, in percent; NaN where it diverged."""
    assert trial.val_accuracy is not None  # `read` gives every trial one
    return trial.val_accuracy


def observation(trial: Candidate) -> Observation:
    """A trial as a searcher sees it."""
    return Observation(trial.config, trial.val_accuracy if trial.status == "done" else None)


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
    except OSError as error:
        raise InputError(f"can't read table {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
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


def _space(trials: Sequence[Candidate]) -> Space:
    """Every value that occurs."""
    values = {name: {trial.config[name] for trial in trials} for name in trials[0].config}
    return {name: Choice(tuple(sorted(found, key=_order))) for name, found in values.items()}


def _order(value: Value) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")

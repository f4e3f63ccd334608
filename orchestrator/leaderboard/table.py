"""Result files -> leaderboard.json's content (design.md, Contracts). Reads and writes nothing.

Where a study is not complete, what is missing is null, and means say over how many tasks they go:
nothing is guessed, nothing is averaged quietly.
"""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.folder import Result
from orchestrator.leaderboard.select import finals, select

Row = dict[str, Any]
StudyKey = tuple[str, str, str]

VTAB_GROUPS = ("natural", "specialized", "structured")


def leaderboard(
    sweep: str,
    protocol: Mapping[str, Any],
    results: Iterable[Result],
    studies: Sequence[StudyKey],
    groups: Mapping[str, str],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """The leaderboard of a sweep.

    studies: (backbone, method, task) in the order to show. groups: task -> group. seeds: those
        of the finals; results under others (of an earlier form of the sweep) don't count.
    """
    by_study: dict[StudyKey, list[Result]] = {study: [] for study in studies}
    for result in results:
        by_study.get((result["backbone"], result["method"], result["task"]), []).append(result)
    rows = [_row(study, groups[study[2]], found, seeds) for study, found in by_study.items()]
    pairs = dict.fromkeys((row["backbone"], row["method"]) for row in rows)
    return {
        "sweep": sweep,
        "protocol": {**protocol, "seeds": list(seeds)},
        "rows": rows,
        "means": [
            _mean([row for row in rows if (row["backbone"], row["method"]) == pair])
            for pair in pairs
        ],
    }


def rows_csv(board: Mapping[str, Any]) -> str:
    """The rows as CSV, a column for each hyperparameter that occurs."""
    hyper = sorted({name for row in board["rows"] for name in row["config"] or ()})
    columns = ["backbone", "method", "task", "group", "test_accuracy", "test_std", "test_seeds"]
    columns += ["val_accuracy", *hyper, "trainable_params", "adapter_params", "trials", "seconds"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in board["rows"]:
        test = row["test_accuracy"] or {"mean": None, "std": None, "n": 0}
        writer.writerow(
            {
                **row,
                **(row["config"] or {}),
                "test_accuracy": test["mean"],
                "test_std": test["std"],
                "test_seeds": test["n"],
            }
        )
    return text.getvalue()


def _row(study: StudyKey, group: str, results: list[Result], seeds: Sequence[int]) -> Row:
    winner = select(results)
    tested = [result for result in finals(results, winner) if result["seed"] in seeds]
    tested.sort(key=lambda result: list(seeds).index(result["seed"]))
    searched = [result for result in results if result["kind"] == "search"]
    return {
        "backbone": study[0],
        "method": study[1],
        "task": study[2],
        "group": group,
        "test_accuracy": _spread([result["test_accuracy"] for result in tested]),
        "val_accuracy": winner and winner["val_accuracy"],
        "config": winner and winner["config"],
        "trainable_params": winner and winner["trainable_params"],
        "adapter_params": winner and winner["adapter_params"],
        "trials": len(searched),
        "statuses": dict(sorted(Counter(result["status"] for result in searched).items())),
        "seconds": round(sum(result["seconds"] for result in results), 3),
        "variants": sorted({r["data"]["variant"] for r in results if r["data"]["variant"]}),
        "published": None,
        "best_on_test": None,
    }


def _spread(accuracies: list[float]) -> dict[str, Any] | None:
    """Mean and sample standard deviation over seeds; one seed has no deviation."""
    if not accuracies:
        return None
    return {
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "n": len(accuracies),
        "seeds": accuracies,
    }


def _mean(rows: list[Row]) -> dict[str, Any]:
    """Means of one method on one backbone, each over the tasks that have a result.

    `n_tasks` says over how many, `n_by_group` how many of each group: only 7 natural tasks, or 19
    in all, make the number that published tables call by the same name.
    """
    tested = [row for row in rows if row["test_accuracy"]]
    of_group = {
        group: [row["test_accuracy"]["mean"] for row in tested if row["group"] == group]
        for group in (*VTAB_GROUPS, "fgvc")
    }
    means = {group: _average(found) for group, found in of_group.items()}
    return {
        "backbone": rows[0]["backbone"],
        "method": rows[0]["method"],
        "mean": _average([row["test_accuracy"]["mean"] for row in tested]),
        "mean_19": _average([accuracy for group in VTAB_GROUPS for accuracy in of_group[group]]),
        "mean_groups": _average([m for group in VTAB_GROUPS if (m := means[group]) is not None]),
        **means,
        "params_mean": _average([row["trainable_params"] for row in tested]),
        "n_tasks": len(tested),
        "n_expected": len(rows),
        "n_by_group": {group: len(found) for group, found in of_group.items()},
        "published": None,
    }


def _average(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None

"""Published figures beside a board's rows and means.

They stand only beside results on the published splits of the real images, and beside a mean only
when each of its tasks has a result: drawn images, other lists and other tasks can't be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from arc_train.backbones import Backbone
from arc_train.tasks.catalog import catalog
from orchestrator.leaderboard.published import (
    Printed,
    comparable,
    disagreements,
    means_of,
    published,
    retuned,
    same_weights,
)

Row = dict[str, Any]


def set_beside(
    rows: Sequence[Row], means: Sequence[Row], backbones: Mapping[str, Backbone]
) -> list[dict[str, Any]]:
    """Fill `published` and `retuned` in; returns the wrong means of the tables that are used.

    A row gets what stands beside it, a mean the same by the name of each mean; both stay None
    where there is nothing.
    """
    used = set()
    for name, find in (("published", published), ("retuned", retuned)):
        tested: dict[tuple[str, str, str], set[str]] = {}
        for row in rows:
            backbone, benchmark = backbones.get(row["backbone"]), row["task"].split("/")[0]
            if backbone is None or not comparable(row["variants"]):
                continue
            line = find(backbone, row["method"], benchmark)
            if line is None:
                continue
            task, test = row["task"], row["test_accuracy"]
            best = line.best.get(task)
            row[name] = _entry(line, line.scores[task], best, test and test["mean"], backbone)
            used.add(line.backbone)
            if test:
                tested.setdefault((*_pair(row), benchmark), set()).add(task)
        for mean in means:
            found: dict[str, dict[str, Any]] = {}
            for benchmark in ("vtab", "fgvc"):
                tasks = tested.get((*_pair(mean), benchmark))
                if not tasks:
                    continue
                backbone = backbones[mean["backbone"]]
                if line := find(backbone, mean["method"], benchmark):
                    best_means = means_of(line.best)
                    found |= {
                        key: _entry(line, accuracy, best_means.get(key), mean[key], backbone)
                        for key, accuracy in means_of(line.scores).items()
                        if tasks.issuperset(_over(key, line))
                    }
            planned = {row["group"] for row in rows if _pair(row) == _pair(mean)}
            if len(planned) == 1 and (only := found.get(*planned)):
                found["mean"] = only  # the mean of the only group is the mean
            mean[name] = found or None
    return [{**asdict(wrong), "by_rounding": wrong.by_rounding} for wrong in disagreements(used)]


def _entry(
    line: Printed, accuracy: float, best: float | None, ours: float | None, backbone: Backbone
) -> dict[str, Any]:
    """A foreign accuracy with what it stands on; difference: ours minus it, in points."""
    entry: dict[str, Any] = {
        "accuracy": accuracy,
        "difference": None if ours is None else ours - accuracy,
        "name": line.name,
        "protocol": line.protocol,
        "weights": line.weights,
        "same_weights": same_weights(backbone, line),
        "source": line.source,
        "note": line.note,
    }
    if best is not None:
        entry["best_epoch_on_test"] = best
    if line.params is not None:
        entry["params_mean"] = round(line.params * 1e6)
    return entry


def _pair(entry: Row) -> tuple[str, str]:
    return entry["backbone"], entry["method"]


def _over(key: str, line: Printed) -> list[str]:
    """The tasks that a mean of a table's row goes over."""
    whole = key in ("mean_19", "mean_groups")
    return [task for task in line.scores if whole or catalog()[task].group == key]

"""Adds published accuracies to a board's rows and means.

They stand only beside results on the published splits of the real images, and beside a mean only
when each of its tasks has a result: drawn images, other lists and other tasks can't be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from arc_train.backbone import Backbone
from arc_train.tasks.catalog import catalog
from orchestrator.leaderboard.board import Board, Mean, Reference, Row, method_of
from orchestrator.leaderboard.published import (
    Printed,
    comparable,
    disagreements,
    means_of,
    published,
    retuned,
    same_weights,
)

Find = Callable[[Backbone, str, str], Printed | None]


def add_references(board: Board, backbones: Mapping[str, Backbone]) -> Board:
    """The board with `published` and `retuned` of its rows and means.

    A row has what stands beside it, a mean the same by the name of each mean; both stay None
    where there is nothing. The wrong means of the tables that are used are listed.
    """
    rows = tuple(
        replace(
            row,
            published=_of_row(row, backbones.get(row.backbone), published),
            retuned=_of_row(row, backbones.get(row.backbone), retuned),
        )
        for row in board.rows
    )
    means = tuple(
        replace(
            mean,
            published=_of_mean(mean, rows, backbones.get(mean.backbone), published),
            retuned=_of_mean(mean, rows, backbones.get(mean.backbone), retuned),
        )
        for mean in board.means
    )
    used = {
        line.backbone
        for row in rows
        for find in (published, retuned)
        if (line := _line(row, backbones.get(row.backbone), find))
    }
    wrong = tuple(disagreements(used))
    return replace(board, rows=rows, means=means, published_disagreements=wrong)


def _line(row: Row, backbone: Backbone | None, find: Find) -> Printed | None:
    """The line of a foreign table that a row can be compared with."""
    if backbone is None or not comparable(row.variants):
        return None
    return find(backbone, method_of(row.method), row.benchmark)


def _of_row(row: Row, backbone: Backbone | None, find: Find) -> Reference | None:
    line = _line(row, backbone, find)
    if line is None or backbone is None:
        return None
    ours = row.test_accuracy.mean if row.test_accuracy else None
    return _reference(line, line.scores[row.task], line.best.get(row.task), ours, backbone)


def _of_mean(
    mean: Mean, rows: Sequence[Row], backbone: Backbone | None, find: Find
) -> Mapping[str, Reference] | None:
    own = [row for row in rows if (row.backbone, row.method) == (mean.backbone, mean.method)]
    found: dict[str, Reference] = {}
    for benchmark in ("vtab", "fgvc"):
        lines = {
            row.task: line
            for row in own
            if row.benchmark == benchmark
            and row.test_accuracy
            and (line := _line(row, backbone, find))
        }
        line = next(iter(lines.values()), None)
        if line is None or backbone is None:
            continue
        best = means_of(line.best)
        found |= {
            key: _reference(line, accuracy, best.get(key), mean.averages[key], backbone)
            for key, accuracy in means_of(line.scores).items()
            if lines.keys() >= set(_tasks_of(key, line))
        }
    planned = {row.group for row in own}
    if len(planned) == 1 and (only := found.get(planned.pop())):
        found["mean"] = only  # the mean of the only group is the mean
    return found or None


def _reference(
    line: Printed, accuracy: float, best: float | None, ours: float | None, backbone: Backbone
) -> Reference:
    return Reference(
        accuracy=accuracy,
        difference=None if ours is None else ours - accuracy,
        name=line.name,
        protocol=line.protocol,
        weights=line.weights,
        same_weights=same_weights(backbone, line),
        source=line.source,
        note=line.note,
        best_epoch_on_test=best,
        params_mean=None if line.params is None else round(line.params * 1e6),
    )


def _tasks_of(key: str, line: Printed) -> list[str]:
    """The tasks that a mean of a table's row goes over."""
    whole = key in ("mean_19", "mean_groups")
    return [task for task in line.scores if whole or catalog()[task].group == key]

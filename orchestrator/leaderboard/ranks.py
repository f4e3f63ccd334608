"""Methods ranked over tasks, and which of them the tasks can tell apart (Demsar, JMLR 2006).

On each task methods are ranked by test accuracy (1 is best, ties share their mean rank). Friedman's
test asks whether mean ranks differ at all; two methods are told apart where their mean ranks differ
by more than Nemenyi's critical difference, q sqrt(k (k + 1) / 6 N) for k methods on N tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.leaderboard.board import Board, Row

LEVEL = 0.05


@dataclass(frozen=True)
class MeanRank:
    """A method and its mean rank over tasks; 1 is best."""

    method: str
    rank: float


@dataclass(frozen=True)
class Ranking:
    """The methods of a backbone by mean rank, over the tasks on which all have a final.

    critical: Nemenyi's critical difference; None, as is p of Friedman's test, where it needs more
    methods (3) or tasks (2). groups: index ranges [first, last] of methods that can't be told
    apart, each as wide as possible, none within another.
    """

    backbone: str
    methods: tuple[MeanRank, ...]
    tasks: int
    p: float | None
    critical: float | None
    groups: tuple[tuple[int, int], ...]


def ranks(board: Board) -> list[Ranking]:
    """A ranking for each backbone that has two methods and a task on which all have a final."""
    return [
        ranking
        for backbone in dict.fromkeys(row.backbone for row in board.rows)
        if (ranking := _ranked(backbone, [r for r in board.rows if r.backbone == backbone]))
    ]


def _ranked(backbone: str, rows: Sequence[Row]) -> Ranking | None:
    from scipy.stats import friedmanchisquare, rankdata  # slow to import

    methods = list(dict.fromkeys(row.method for row in rows))
    tested = {(row.task, row.method): row.test_accuracy.mean for row in rows if row.test_accuracy}
    tasks = [
        task
        for task in dict.fromkeys(row.task for row in rows)
        if all((task, method) in tested for method in methods)
    ]
    if len(methods) < 2 or not tasks:
        return None
    table = np.array([[tested[task, method] for method in methods] for task in tasks])
    mean = rankdata(-table, axis=1).mean(axis=0)
    order = np.argsort(mean, kind="stable")
    critical = p = None
    if len(methods) > 2 and len(tasks) > 1:
        critical = critical_difference(len(methods), len(tasks))
        same = bool((table == table[:, :1]).all())
        p = 1.0 if same else float(friedmanchisquare(*table.T).pvalue)
    return Ranking(
        backbone=backbone,
        methods=tuple(MeanRank(methods[i], float(mean[i])) for i in order),
        tasks=len(tasks),
        p=p,
        critical=critical,
        groups=() if critical is None else _groups(mean[order].tolist(), critical),
    )


def critical_difference(methods: int, tasks: int) -> float:
    """Nemenyi's, at LEVEL."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * tasks))


def _groups(ranks: Sequence[float], critical: float) -> tuple[tuple[int, int], ...]:
    groups: list[tuple[int, int]] = []
    for first, low in enumerate(ranks):
        last = max(i for i, rank in enumerate(ranks) if rank - low <= critical)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return tuple(groups)

"""Results -> the leaderboard. Reads and writes nothing.

Where a study is not complete, what is missing is None, and means say over how many tasks they go:
nothing is guessed, nothing is averaged quietly. Beside a number stands how far chance carries it.
"""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from arc_train.backbone import Backbone
from arc_train.predictions import Predictions
from orchestrator.leaderboard.board import (
    Board,
    Interval,
    Mean,
    MeanBestOnTest,
    Protocol,
    Row,
    Ties,
)
from orchestrator.leaderboard.evidence import Pairs, pairs, quality
from orchestrator.leaderboard.means import VTAB_GROUPS, average, averages, groups_of, mean_names
from orchestrator.leaderboard.paired import TASK
from orchestrator.leaderboard.references import add_references
from orchestrator.leaderboard.tested import best_on_test, cost, interval, spread, tested_of
from orchestrator.search.selection import Candidate, select
from orchestrator.store.result import DataInfo, Result, Study


def leaderboard(
    sweep: str,
    protocol: Protocol,
    results: Iterable[Result],
    studies: Sequence[Study],
    groups: Mapping[str, str],
    backbones: Mapping[str, Backbone] | None = None,
    unreadable: Sequence[str] = (),
    predictions: Mapping[str, Predictions] | None = None,
) -> Board:
    """The leaderboard of a sweep.

    protocol: results under other seeds (of an earlier form of the sweep) don't count.
    studies: in the order to show. groups: task -> group.
    backbones: by name; published figures stand beside the results on those that are named here.
    unreadable: what is wrong with files that are left aside.
    predictions: of finals, by id; methods are compared by them where all have them.
    """
    by_study: dict[Study, list[Result]] = {study: [] for study in studies}
    for result in results:
        by_study.get(result.study, []).append(result)
    seeds = protocol.seeds
    tested = {study: tested_of(found, seeds) for study, found in by_study.items()}
    predictions = predictions or {}
    rows = [
        _row(study, groups[study.task], found, tested[study], predictions)
        for study, found in by_study.items()
    ]
    lines = dict.fromkeys((row.backbone, row.method) for row in rows)
    planned = list(dict.fromkeys(row.group for row in rows))
    means = [
        _mean([row for row in rows if (row.backbone, row.method) == line], planned, len(seeds))
        for line in lines
    ]
    found = pairs(tested, groups, len(seeds), predictions)
    board = Board(
        sweep,
        protocol,
        tuple(_marked_rows(rows, len(seeds), found)),
        tuple(_marked_means(means, rows, mean_names(planned), len(seeds), found)),
        unreadable=tuple(unreadable),
        pairs=tuple(found.values()),
    )
    return add_references(board, backbones or {})


def _row(
    study: Study,
    group: str,
    results: list[Result],
    tested: Sequence[Result],
    predictions: Mapping[str, Predictions],
) -> Row:
    chosen = select(map(Candidate.of, results))
    winner = next((r for r in results if chosen and r.id == chosen.id), None)
    searched = [result for result in results if result.kind == "search"]
    return Row(
        **asdict(study),
        group=group,
        test_accuracy=spread([r.test_accuracy for r in tested if r.test_accuracy is not None]),
        val_accuracy=chosen.val_accuracy if chosen else None,
        ties=_ties(chosen, winner.data, searched) if chosen and winner else None,
        config=winner.config if winner else None,
        trainable_params=winner.trainable_params if winner else None,
        adapter_params=winner.adapter_params if winner else None,
        quality=quality(tested, predictions),
        cost=cost(tested),
        trials=len(searched),
        statuses=dict(sorted(Counter(result.status for result in searched).items())),
        seconds=round(sum(result.seconds for result in results), 3),
        variants=tuple(sorted({r.data.variant for r in results if r.data.variant})),
        metric=next((r.data.metric for r in results if r.data.metric), None),
        class_names=next((r.data.class_names for r in tested if r.data.class_names), ()),
        best_on_test=best_on_test([r.test_curve for r in tested if r.test_curve is not None]),
    )


def _ties(winner: Candidate, data: DataInfo, searched: Sequence[Result]) -> Ties | None:
    images, top = data.val_images, winner.val_accuracy
    if not images or top is None:  # results of before the number of images was recorded
        return None
    if data.metric == "balanced_accuracy":  # its error needs the images of each class
        return None
    error: float = (top * (100 - top) / images) ** 0.5
    others = [
        (r.status, r.val_accuracy)
        for r in searched
        if r.config != winner.config
        and r.seed == winner.seed  # of those validated again, each counts once
        and r.val_accuracy is not None
    ]
    return Ties(
        standard_error=error,
        within_one_se=sum(1 for _, accuracy in others if accuracy >= top - error),
        tied_at_top=sum(1 for other in others if other == ("done", top)),
    )


def _marked_rows(rows: Sequence[Row], seeds: int, known: Pairs) -> list[Row]:
    """The rows, with the best of each (backbone, task) marked, and those that tie with it."""
    marked = list(rows)
    for pair in dict.fromkeys((row.backbone, row.task) for row in rows):
        places = [i for i, row in enumerate(rows) if (row.backbone, row.task) == pair]
        found = [
            (test.mean, test.ci95)
            if (test := rows[i].test_accuracy) and _complete([rows[i]], seeds)
            else None
            for i in places
        ]
        told = _told(known, *pair, TASK, [rows[i].method for i in places])
        for i, (best, ties) in zip(places, _compare(found, told), strict=True):
            marked[i] = replace(rows[i], best=best, ties_with_best=ties)
    return marked


def _marked_means(
    means: Sequence[Mean], rows: Sequence[Row], names: Sequence[str], seeds: int, known: Pairs
) -> list[Mean]:
    """The same for each mean on each backbone, as maps from the mean's name."""
    best: list[dict[str, bool]] = [{} for _ in means]
    ties: list[dict[str, bool | None]] = [{} for _ in means]
    for backbone in dict.fromkeys(mean.backbone for mean in means):
        places = [i for i, mean in enumerate(means) if mean.backbone == backbone]
        for key in names:
            inside = _inside(key, [row for row in rows if row.backbone == backbone])
            found = [
                (value, means[i].ci95[key])
                if (value := means[i].averages[key]) is not None
                and _complete([row for row in inside if row.method == means[i].method], seeds)
                else None
                for i in places
            ]
            told = _told(known, backbone, None, key, [means[i].method for i in places])
            for i, marks in zip(places, _compare(found, told), strict=True):
                best[i][key], ties[i][key] = marks
    return [replace(mean, best=best[i], ties_with_best=ties[i]) for i, mean in enumerate(means)]


def _inside(key: str, rows: Sequence[Row]) -> list[Row]:
    """The rows that a mean goes over."""
    if key == "mean":
        return list(rows)
    groups = VTAB_GROUPS if key in ("mean_19", "mean_groups") else (key,)
    return [row for row in rows if row.group in groups]


def _complete(rows: Sequence[Row], seeds: int) -> bool:
    """Whether there are rows, each with all its finals."""
    return bool(rows) and all(row.test_accuracy and row.test_accuracy.n == seeds for row in rows)


def _told(
    known: Pairs, backbone: str, task: str | None, scope: str, names: Sequence[str]
) -> dict[tuple[int, int], bool]:
    """(place, place) -> whether the same test images tell the two methods apart."""
    told = {}
    for i, j in itertools.permutations(range(len(names)), 2):
        if pair := known.get((backbone, scope, task, frozenset((names[i], names[j])))):
            told[i, j] = pair.told_apart
    return told


def _compare(
    found: Sequence[tuple[float, Interval | None] | None], told: Mapping[tuple[int, int], bool]
) -> list[tuple[bool, bool | None]]:
    """(is the best, ties with the best) for each mean with its interval; None: incomplete.

    What the same test images say counts. Where they say nothing, two that aren't told apart have
    intervals that overlap: a careful rule, under which means that differ are called so at well
    below 5 % of chance. Null where no interval can say.
    """
    complete = [(entry, i) for i, entry in enumerate(found) if entry]
    if not complete:
        return [(False, None)] * len(found)
    (top, bar), first = max(complete, key=lambda entry: entry[0][0])
    marks: list[tuple[bool, bool | None]] = []
    for i, entry in enumerate(found):
        if entry and entry[0] == top:
            marks.append((True, False))
        elif entry and (i, first) in told:
            marks.append((False, not told[i, first]))
        elif entry and entry[1] and bar:
            marks.append((False, entry[1][1] >= bar[0]))
        else:
            marks.append((False, None))
    return marks


def _mean(rows: list[Row], planned: Sequence[str], seeds: int) -> Mean:
    """Means of one method on one backbone, each over the tasks that have a result.

    `n_tasks` says over how many, `n_by_group` how many of each group: only 7 natural tasks, or 19
    in all, make the number that published tables call by the same name.

    planned: the groups of the board's tasks.
    """
    tested = [(row, row.test_accuracy) for row in rows if row.test_accuracy]
    groups = [row.group for row, _ in tested]
    metered = [row.best_on_test for row, _ in tested if row.best_on_test]
    params = [row.trainable_params for row, _ in tested if row.trainable_params is not None]
    return Mean(
        backbone=rows[0].backbone,
        method=rows[0].method,
        averages=averages(groups, [test.mean for _, test in tested], planned),
        ci95={
            key: _interval_of_mean(key, _inside(key, rows), seeds) for key in mean_names(planned)
        },
        params_mean=average(params),
        n_tasks=len(tested),
        n_expected=len(rows),
        n_by_group={group: groups.count(group) for group in groups_of(planned)},
        best_on_test=MeanBestOnTest(
            mean=statistics.fmean(entry.mean for entry in metered),
            gap=statistics.fmean(entry.gap for entry in metered),
            n_tasks=len(metered),
        )
        if metered
        else None,
    )


def _interval_of_mean(key: str, rows: Sequence[Row], seeds: int) -> Interval | None:
    """Over the means that each seed gives, where all finals of its tasks are there."""
    if not _complete(rows, seeds):
        return None
    groups = [row.group for row in rows]
    by_seed = zip(*(row.test_accuracy.seeds for row in rows if row.test_accuracy), strict=True)
    means = [averages(groups, accuracies)[key] for accuracies in by_seed]
    return interval([mean for mean in means if mean is not None])

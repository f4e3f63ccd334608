"""Result files -> leaderboard.json's content (design.md, Contracts). Reads and writes nothing.

Where a study is not complete, what is missing is null, and means say over how many tasks they go:
nothing is guessed, nothing is averaged quietly. How far chance carries a number stands beside it.
"""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from arc_train.backbones import Backbone
from orchestrator.leaderboard.beside import set_beside
from orchestrator.leaderboard.means import MEANS, VTAB_GROUPS, average, averages
from orchestrator.search.selection import Candidate, finals, select
from orchestrator.store.result import Result, TestCurve

Row = dict[str, Any]
StudyKey = tuple[str, str, str]

CONFIDENCE = 0.95


def leaderboard(
    sweep: str,
    protocol: Mapping[str, Any],
    results: Iterable[Result],
    studies: Sequence[StudyKey],
    groups: Mapping[str, str],
    seeds: Sequence[int],
    backbones: Mapping[str, Backbone] | None = None,
) -> dict[str, Any]:
    """The leaderboard of a sweep.

    studies: (backbone, method, task) in the order to show. groups: task -> group. seeds: those
        of the finals; results under others (of an earlier form of the sweep) don't count.
    backbones: by name; published figures stand beside the results on those that are named here.
    """
    by_study: dict[StudyKey, list[Result]] = {study: [] for study in studies}
    for result in results:
        by_study.get((result.backbone, result.method, result.task), []).append(result)
    rows = [_row(study, groups[study[2]], found, seeds) for study, found in by_study.items()]
    pairs = dict.fromkeys((row["backbone"], row["method"]) for row in rows)
    means = [
        _mean([row for row in rows if (row["backbone"], row["method"]) == pair], len(seeds))
        for pair in pairs
    ]
    _mark_rows(rows, len(seeds))
    _mark_means(means, rows, len(seeds))
    return {
        "sweep": sweep,
        "protocol": {**protocol, "seeds": list(seeds)},
        "rows": rows,
        "means": means,
        "published_disagreements": set_beside(rows, means, backbones or {}),
    }


def rows_csv(board: Mapping[str, Any]) -> str:
    """The rows as CSV, a column for each hyperparameter that occurs."""
    hyper = sorted({name for row in board["rows"] for name in row["config"] or ()})
    columns = ["backbone", "method", "task", "group", "test_accuracy", "test_std", "test_seeds"]
    columns += ["test_ci95_low", "test_ci95_high", "best", "ties_with_best"]
    if any(row["best_on_test"] for row in board["rows"]):
        columns += ["best_on_test", "best_on_test_gap"]
    columns += ["val_accuracy", "val_standard_error", "val_within_one_se", "val_tied_at_top"]
    columns += [*hyper, "trainable_params", "adapter_params", "trials", "seconds"]
    if any(row["published"] or row["retuned"] for row in board["rows"]):
        columns += ["published", "published_difference", "published_protocol"]
        columns += ["published_weights", "published_same_weights", "published_source"]
        columns += ["retuned", "retuned_difference", "retuned_best_epoch_on_test"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in board["rows"]:
        test = row["test_accuracy"] or {"mean": None, "std": None, "n": 0, "ci95": None}
        low, high = test["ci95"] or (None, None)
        metered = row["best_on_test"] or {"mean": None, "gap": None}
        ties = row["ties"] or {}
        printed, anew = row["published"] or {}, row["retuned"] or {}
        writer.writerow(
            {
                **row,
                **(row["config"] or {}),
                "test_accuracy": test["mean"],
                "test_std": test["std"],
                "test_seeds": test["n"],
                "test_ci95_low": low,
                "test_ci95_high": high,
                "best_on_test": metered["mean"],
                "best_on_test_gap": metered["gap"],
                **{f"val_{name}": count for name, count in ties.items()},
                **{f"published_{name}": value for name, value in printed.items()},
                **{f"retuned_{name}": value for name, value in anew.items()},
                "published": printed.get("accuracy"),
                "retuned": anew.get("accuracy"),
            }
        )
    return text.getvalue()


def _row(study: StudyKey, group: str, results: list[Result], seeds: Sequence[int]) -> Row:
    chosen = select(map(Candidate.of, results))
    winner = next((r for r in results if chosen and r.id == chosen.id), None)
    tested = [result for result in finals(results, chosen) if result.seed in seeds]
    tested.sort(key=lambda result: list(seeds).index(result.seed))
    searched = [result for result in results if result.kind == "search"]
    return {
        "backbone": study[0],
        "method": study[1],
        "task": study[2],
        "group": group,
        "test_accuracy": _spread([r.test_accuracy for r in tested if r.test_accuracy is not None]),
        "val_accuracy": chosen and chosen.val_accuracy,
        "ties": winner and chosen and _ties(chosen, winner.data.val_images, searched),
        "config": winner and winner.config,
        "trainable_params": winner and winner.trainable_params,
        "adapter_params": winner and winner.adapter_params,
        "trials": len(searched),
        "statuses": dict(sorted(Counter(result.status for result in searched).items())),
        "seconds": round(sum(result.seconds for result in results), 3),
        "variants": sorted({r.data.variant for r in results if r.data.variant}),
        "published": None,
        "retuned": None,
        "best_on_test": _best_on_test([r.test_curve for r in tested if r.test_curve is not None]),
    }


def _spread(accuracies: list[float]) -> dict[str, Any] | None:
    """Mean, sample standard deviation and 95 % interval over seeds; one seed has only a mean."""
    if not accuracies:
        return None
    return {
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "n": len(accuracies),
        "seeds": accuracies,
        "ci95": _interval(accuracies),
    }


def _interval(accuracies: Sequence[float]) -> list[float] | None:
    """Student's 95 % interval of the mean over seeds, in percent; None for one seed.

    It covers what a seed changes: initialisation, dropout, the order of batches. It does not cover
    that another search could choose another configuration, nor that other test images would give
    another accuracy (a standard error of up to 2.2 points on 500 images, 0.3 on 20,000); all
    methods are tested on the same images, so of that a comparison feels only a part.
    """
    if len(accuracies) < 2:
        return None
    mean = statistics.fmean(accuracies)
    quantile = float(stdtrit(len(accuracies) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * statistics.stdev(accuracies) / len(accuracies) ** 0.5
    return [max(0.0, mean - half), min(100.0, mean + half)]


def _ties(
    winner: Candidate, images: int | None, searched: Sequence[Result]
) -> dict[str, Any] | None:
    """How many other trials the validation images can hardly tell from the winner.

    standard_error: of the winner's accuracy, binomial over the validation images, in points.
    within_one_se: others, stopped ones included, last validated at most that far below the winner.
    tied_at_top: others trained to the end with the very same accuracy.
    """
    if not images or winner.val_accuracy is None:  # results of before this was recorded
        return None
    top = winner.val_accuracy
    error = (top * (100 - top) / images) ** 0.5
    others = [
        (r.status, r.val_accuracy)
        for r in searched
        if r.config != winner.config
        and r.seed == winner.seed  # of those validated again, each counts once
        and r.val_accuracy is not None
    ]
    return {
        "standard_error": error,
        "within_one_se": sum(1 for _, accuracy in others if accuracy >= top - error),
        "tied_at_top": sum(1 for entry in others if entry == ("done", top)),
    }


def _best_on_test(curves: Sequence[TestCurve]) -> dict[str, Any] | None:
    """What each final's best epoch on test would have claimed; gap: over its last epoch's.

    curves: rows (epoch, test accuracy). epochs: the first best epoch of each seed.
    """
    if not curves:
        return None
    best = [max(curve, key=lambda row: row.accuracy) for curve in curves]
    accuracies = [accuracy for _, accuracy in best]
    return {
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "n": len(accuracies),
        "epochs": [epoch for epoch, _ in best],
        "gap": statistics.fmean(
            b.accuracy - curve[-1].accuracy for b, curve in zip(best, curves, strict=True)
        ),
    }


def _mark_rows(rows: Sequence[Row], seeds: int) -> None:
    """Mark in each (backbone, task) the best row and those that can't be told from it."""
    for pair in dict.fromkeys((row["backbone"], row["task"]) for row in rows):
        group = [row for row in rows if (row["backbone"], row["task"]) == pair]
        found = [
            (row["test_accuracy"]["mean"], row["test_accuracy"]["ci95"])
            if _whole([row], seeds)
            else None
            for row in group
        ]
        for row, (best, ties) in zip(group, _compare(found), strict=True):
            row |= {"best": best, "ties_with_best": ties}


def _mark_means(means: Sequence[Row], rows: Sequence[Row], seeds: int) -> None:
    """The same for each mean on each backbone, as maps from the mean's name."""
    for backbone in dict.fromkeys(mean["backbone"] for mean in means):
        group = [mean for mean in means if mean["backbone"] == backbone]
        own = [row for row in rows if row["backbone"] == backbone]
        for key in MEANS:
            inside = _inside(key, own)
            found = [
                (mean[key], mean["ci95"][key])
                if _whole([row for row in inside if row["method"] == mean["method"]], seeds)
                else None
                for mean in group
            ]
            for mean, (best, ties) in zip(group, _compare(found), strict=True):
                mean.setdefault("best", {})[key] = best
                mean.setdefault("ties_with_best", {})[key] = ties


def _inside(key: str, rows: Sequence[Row]) -> list[Row]:
    """The rows that a mean goes over."""
    if key == "mean":
        return list(rows)
    groups = VTAB_GROUPS if key in ("mean_19", "mean_groups") else (key,)
    return [row for row in rows if row["group"] in groups]


def _whole(rows: Sequence[Row], seeds: int) -> bool:
    """Whether there are rows, each with all its finals."""
    return bool(rows) and all(
        row["test_accuracy"] and row["test_accuracy"]["n"] == seeds for row in rows
    )


def _compare(
    found: Sequence[tuple[float, list[float] | None] | None],
) -> list[tuple[bool, bool | None]]:
    """(is the best, ties with it) of each of some means with their intervals; None: incomplete.

    Two that aren't told apart have intervals that overlap: a careful rule, under which means that
    differ are called so at well below 5 % of chance. Null where no interval can say.
    """
    complete = [entry for entry in found if entry]
    if not complete:
        return [(False, None)] * len(found)
    top, bar = max(complete, key=lambda entry: entry[0])
    marks: list[tuple[bool, bool | None]] = []
    for entry in found:
        if entry and entry[0] == top:
            marks.append((True, False))
        elif entry and entry[1] and bar:
            marks.append((False, entry[1][1] >= bar[0]))
        else:
            marks.append((False, None))
    return marks


def _mean(rows: list[Row], seeds: int) -> dict[str, Any]:
    """Means of one method on one backbone, each over the tasks that have a result.

    `n_tasks` says over how many, `n_by_group` how many of each group: only 7 natural tasks, or 19
    in all, make the number that published tables call by the same name.
    """
    tested = [row for row in rows if row["test_accuracy"]]
    groups = [row["group"] for row in tested]
    metered = [row["best_on_test"] for row in tested if row["best_on_test"]]
    return {
        "backbone": rows[0]["backbone"],
        "method": rows[0]["method"],
        **averages(groups, [row["test_accuracy"]["mean"] for row in tested]),
        "ci95": {key: _interval_of_mean(key, _inside(key, rows), seeds) for key in MEANS},
        "params_mean": average([row["trainable_params"] for row in tested]),
        "n_tasks": len(tested),
        "n_expected": len(rows),
        "n_by_group": {group: groups.count(group) for group in (*VTAB_GROUPS, "fgvc")},
        "published": None,
        "retuned": None,
        "best_on_test": {
            "mean": statistics.fmean(entry["mean"] for entry in metered),
            "gap": statistics.fmean(entry["gap"] for entry in metered),
            "n_tasks": len(metered),
        }
        if metered
        else None,
    }


def _interval_of_mean(key: str, rows: Sequence[Row], seeds: int) -> list[float] | None:
    """Over the means that each seed gives, where all finals of its tasks are there."""
    if not _whole(rows, seeds):
        return None
    groups = [row["group"] for row in rows]
    by_seed = zip(*(row["test_accuracy"]["seeds"] for row in rows), strict=True)
    means = [averages(groups, accuracies)[key] for accuracies in by_seed]
    return _interval([mean for mean in means if mean is not None])

"""The selection rule and the table, on result files made here."""

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_train.backbones import Backbone
from arc_train.predictions import Predictions
from arc_train.tasks.catalog import catalog
from orchestrator.leaderboard.board import (
    Board,
    Cost,
    MeanBestOnTest,
    Protocol,
    Quality,
    Row,
    Spread,
    plain_board,
)
from orchestrator.leaderboard.costs import MethodCost, method_costs
from orchestrator.leaderboard.rows_csv import rows_csv
from orchestrator.leaderboard.table import leaderboard
from orchestrator.search.selection import Candidate, select
from orchestrator.store.result import DataInfo, Result, Study
from tests.results import final, result

STUDY = Study("b", "arc", "vtab/cifar100")


def board(
    results: list[Result],
    studies: Sequence[Study] = (STUDY,),
    groups: Mapping[str, str] | None = None,
    seeds: Sequence[int] = (0, 1),
    backbones: Mapping[str, Backbone] | None = None,
    predictions: Mapping[str, Predictions] | None = None,
) -> Board:
    protocol = Protocol("train+val", False, tuple(seeds))
    groups = groups or {STUDY.task: "natural"}
    return leaderboard("s", protocol, results, studies, groups, backbones, predictions=predictions)


def spread(row: Row) -> Spread:
    assert row.test_accuracy
    return row.test_accuracy


def test_ties_go_to_loss_then_parameters_then_lr_then_the_configuration() -> None:
    ladder = [
        result(val_accuracy=60.0, val_loss=9.0, trainable_params=9999, config={"lr": 0.3}),
        result(val_loss=0.5, trainable_params=9999, config={"lr": 0.4}),
        result(trainable_params=500, config={"lr": 0.5}),
        result(config={"lr": 0.001}),
        result(config={"lr": 0.01, "rank": 2}),
        result(config={"lr": 0.01, "rank": 4}),
    ]
    candidates = list(map(Candidate.of, ladder))
    for i in range(len(candidates)):
        for order in permutations(candidates[i:]):
            assert select(order) is candidates[i]


def test_only_trials_trained_to_the_end_of_a_search_can_win() -> None:
    losers = [
        result(status=status, val_accuracy=99.0) for status in ("stopped", "diverged", "failed")
    ]
    losers.append(final(0, 99.0, val_accuracy=99.0, val_loss=0.0))
    winner = Candidate.of(result(val_accuracy=1.0))
    candidates = list(map(Candidate.of, losers))
    assert select([*candidates, winner]) is winner
    assert select(candidates) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_test_accuracies_and_the_order_of_files_never_choose(
    accuracies: list[float], draws: random.Random
) -> None:
    results = [
        result(val_accuracy=accuracy, config={"lr": 0.1, "rank": rank})
        for rank, accuracy in enumerate(accuracies)
    ]
    winner = select(map(Candidate.of, results))
    shuffled = [replace(r, test_accuracy=draws.uniform(0, 100)) for r in results]
    draws.shuffle(shuffled)
    chosen = select(map(Candidate.of, shuffled))
    assert winner
    assert chosen
    assert chosen.id == winner.id


def test_a_row_holds_the_winner_and_its_finals_only() -> None:
    better = {"lr": 0.02, "rank": 16}
    made = board(
        [
            result(val_accuracy=70.0, config=better, trainable_params=2000),
            result(),
            result(status="diverged", val_accuracy=None, val_loss=None),
            final(1, 61.0, config=better),
            final(0, 65.0, config=better),
            final(2, 99.0, config=better),  # a seed that is no longer asked for
            final(0, 98.0),  # of a configuration that no longer wins
            final(1, 97.0, config=better, status="diverged"),
        ]
    )
    (row,) = made.rows
    assert row.config == better
    assert spread(row).seeds == (65.0, 61.0)
    assert spread(row).mean == 63.0
    assert round(spread(row).std or 0, 4) == 2.8284
    assert (row.trials, row.statuses) == (3, {"diverged": 1, "done": 2})
    assert row.trainable_params == 2000
    json.dumps(plain_board(made), allow_nan=False)


def test_one_seed_has_no_deviation_and_none_has_no_accuracy() -> None:
    one = board([result(), final(0, 60.0)]).rows[0].test_accuracy
    assert one == Spread(mean=60.0, std=None, n=1, seeds=(60.0,), ci95=None)
    (row,) = board([result()]).rows
    assert row.test_accuracy is None
    (row,) = board([]).rows
    assert row.config is None
    assert (row.trials, row.val_accuracy) == (0, None)


def test_both_averages_and_over_how_many_tasks_they_go() -> None:
    tasks = {
        "vtab/cifar100": "natural",
        "vtab/dtd": "natural",
        "vtab/eurosat": "specialized",
        "vtab/dmlab": "structured",
        "fgvc/cub200": "fgvc",
    }
    studies = [Study("b", "arc", task) for task in tasks]
    results = []
    for task, accuracy in zip(tasks, (80.0, 60.0, 90.0, 40.0), strict=False):
        results += [result(task=task), final(0, accuracy, task=task)]
    (mean,) = board(results, studies=studies, groups=tasks).means
    assert (mean.n_tasks, mean.n_expected) == (4, 5)
    averages = mean.averages
    assert mean.n_by_group == {"natural": 2, "specialized": 1, "structured": 1, "fgvc": 0}
    assert averages["mean_19"] == averages["mean"] == 67.5
    assert averages["natural"] == 70.0
    assert round(averages["mean_groups"] or 0, 4) == 66.6667
    assert averages["fgvc"] is None
    assert mean.params_mean == 1000


def test_the_interval_is_students_over_seeds() -> None:
    found = board(
        [result(), *(final(i, a) for i, a in enumerate((60.0, 62.0, 64.0)))], seeds=[0, 1, 2]
    )
    test = spread(found.rows[0])
    half = 4.302653 * 2.0 / 3**0.5  # t of 2 degrees of freedom, printed in every table of it
    assert test.ci95 == pytest.approx((62 - half, 62 + half), abs=1e-4)
    wide = spread(board([result(), final(0, 99.0), final(1, 95.0)]).rows[0])
    assert wide.ci95
    assert wide.ci95[1] == 100.0


def test_how_many_trials_validation_can_hardly_tell_from_the_winner() -> None:
    made = board(
        [
            result(val_accuracy=50.0, val_loss=0.5, config={"lr": 0.1}),
            result(val_accuracy=50.0, config={"lr": 0.2}),
            result(val_accuracy=50.0, status="stopped", config={"lr": 0.3}),
            # the standard error of 50 % on 200 images is 3.54
            result(val_accuracy=46.5, config={"lr": 0.4}),
            result(val_accuracy=46.0, config={"lr": 0.5}),
            result(val_accuracy=None, val_loss=None, status="diverged"),
        ]
    )
    ties = made.rows[0].ties
    assert ties
    assert ties.standard_error == pytest.approx(3.5355, abs=1e-4)
    assert (ties.within_one_se, ties.tied_at_top) == (3, 1)
    old = result(data=DataInfo(variant="v", fingerprint="f"))
    assert board([old]).rows[0].ties is None
    assert board([]).rows[0].ties is None


def methods(accuracies: dict[str, list[list[float]]]) -> tuple[list[Result], dict[str, Any]]:
    """Results of methods on tasks (one list of seeds each), and a board's settings for them."""
    tasks = {"vtab/dtd": "natural", "vtab/dmlab": "structured"}
    results = []
    for method, by_task in accuracies.items():
        for task, seeds in zip(tasks, by_task, strict=True):
            results.append(result(method=method, task=task))
            results += [final(i, a, method=method, task=task) for i, a in enumerate(seeds)]
    return results, {
        "studies": [Study("b", m, t) for m in accuracies for t in tasks],
        "groups": tasks,
    }


def test_methods_that_seeds_can_not_tell_from_the_best_are_marked() -> None:
    results, settings = methods(
        {
            "top": [[80.0, 80.2], [40.0, 40.2]],
            "near": [[79.8, 80.1], [30.0, 30.1]],
            "far": [[70.0, 70.1], [20.0, 20.1]],
            "open": [[90.0], [39.9, 40.2]],
        }
    )
    made = board(results, **settings)
    marks = {(r.method, r.task): (r.best, r.ties_with_best) for r in made.rows}
    assert marks["top", "vtab/dtd"] == (True, False)
    assert marks["near", "vtab/dtd"] == (False, True)
    assert marks["near", "vtab/dmlab"] == marks["far", "vtab/dtd"] == (False, False)
    assert marks["open", "vtab/dtd"] == (False, None), "finals are missing: nothing is said"
    assert marks["open", "vtab/dmlab"] == (False, True)
    top, near, _, unfinished = made.means
    # By seed: (80 + 40) / 2 and (80.2 + 40.2) / 2; t of 1 degree of freedom.
    half = 12.7062 * 0.2 / 2**0.5 / 2**0.5
    assert top.ci95["mean"] == pytest.approx((60.1 - half, 60.1 + half), abs=1e-3)
    assert top.best["mean"]
    assert not near.ties_with_best["mean"]
    assert near.ties_with_best["natural"]
    assert unfinished.ci95["mean"] is None
    assert (unfinished.best["mean"], unfinished.ties_with_best["mean"]) == (False, None)
    assert unfinished.ties_with_best["structured"]
    assert top.ci95["fgvc"] is None


def test_with_one_seed_there_is_a_best_but_no_interval_to_tell_by() -> None:
    results, settings = methods({"top": [[80.0], [40.0]], "near": [[79.9], [39.0]]})
    made = board(results, **settings, seeds=[0])
    assert [(r.best, r.ties_with_best) for r in made.rows] == [
        (True, False),
        (True, False),
        (False, None),
        (False, None),
    ]
    assert made.means[0].ci95["mean"] is None


def test_the_leak_meter_says_what_the_best_epoch_on_test_would_have_claimed() -> None:
    curves = [[[1, 60.0], [2, 66.0], [3, 64.0]], [[1, 62.0], [2, 61.0], [3, 62.0]]]
    finals = [final(i, curve[-1][1], test_curve=curve) for i, curve in enumerate(curves)]
    made = board([result(), *finals])
    (row,) = made.rows
    assert spread(row).mean == 63.0
    best = row.best_on_test
    assert best
    assert (best.mean, best.gap, best.n, best.epochs) == (64.0, 1.0, 2, (2, 1))
    assert made.means[0].best_on_test == MeanBestOnTest(mean=64.0, gap=1.0, n_tasks=1)
    (line,) = csv.DictReader(io.StringIO(rows_csv(made)))
    assert (line["best_on_test"], line["best_on_test_gap"]) == ("64.0", "1.0")
    plain = board([result(), final(0, 60.0)])
    assert plain.rows[0].best_on_test is plain.means[0].best_on_test is None
    assert "best_on_test" not in rows_csv(plain)


def test_csv_has_a_line_for_each_row_and_quotes_what_needs_it() -> None:
    other = Study("b", "linear", 'odd,"name"')
    made = board(
        [
            result(),
            final(0, 60.0),
            result(method=other.method, task=other.task, config={"lr": 0.5}),
        ],
        studies=[STUDY, other],
        groups={STUDY.task: "natural", other.task: "demo"},
    )
    first, second = csv.DictReader(io.StringIO(rows_csv(made)))
    assert (first["test_accuracy"], first["test_seeds"], first["rank"]) == ("60.0", "1", "8")
    assert (second["task"], second["test_accuracy"], second["rank"]) == (other.task, "", "")
    assert (first["val_within_one_se"], first["test_ci95_low"], first["best"]) == ("0", "", "False")


MODEL = "vit_base_patch16_224.orig_in21k"


def compared(tasks: list[str], variant: str = "vtab-1k folder", method: str = "lora") -> Board:
    """A board of one method on a backbone of the published tables, at 70 % everywhere."""
    data = DataInfo(variant=variant, fingerprint="f", val_images=200)
    results = [
        make(backbone=MODEL, method=method, task=task, data=data)
        for task in tasks
        for make in (result, lambda **fields: final(0, 70.0, **fields))
    ]
    return board(
        results,
        studies=[Study(MODEL, method, task) for task in tasks],
        groups={task: catalog()[task].group for task in tasks},
        seeds=[0],
        backbones={MODEL: Backbone(MODEL, MODEL)},
    )


def test_published_figures_stand_beside_rows_and_whole_means() -> None:
    made = compared([task for task in catalog() if task.startswith("vtab/")])
    row = next(row for row in made.rows if row.task == "vtab/kitti")
    assert row.published
    assert row.retuned
    assert row.published.accuracy == 79.0
    assert row.published.difference == pytest.approx(-9.0)
    assert row.published.protocol == "test-picked"
    assert row.published.same_weights is True
    assert row.retuned.accuracy == 76.93
    assert row.retuned.best_epoch_on_test == 79.89
    published, retuned = made.means[0].published, made.means[0].retuned
    assert published
    assert retuned
    assert published["mean_19"].accuracy == pytest.approx(70.13, abs=0.005)
    assert published["mean_groups"].accuracy == pytest.approx(72.74, abs=0.01)
    assert retuned["mean_19"].difference == pytest.approx(70 - 72.91, abs=0.005)
    assert set(published) == {
        "mean_19", "mean_groups", "natural", "specialized", "structured"
    }  # fmt: skip
    (line, *_) = csv.DictReader(io.StringIO(rows_csv(made)))
    assert (line["published"], line["published_protocol"]) == ("65.3", "test-picked")
    assert (line["retuned"], line["retuned_best_epoch_on_test"]) == ("70.21", "70.46")


def test_a_published_mean_never_stands_beside_a_mean_of_other_tasks() -> None:
    natural = [task for task in catalog() if catalog()[task].group == "natural"]
    made = compared([*natural, "vtab/kitti"])
    assert set(made.means[0].published or ()) == {"natural"}
    assert compared(natural[:3]).means[0].published is None
    alone = compared(natural).means[0].published
    assert alone
    assert alone["mean"] == alone["natural"]


@pytest.mark.parametrize(
    "variant", ["stand-in", "embedded", "vtab-1k folder (sizes 1/1/1, not the published split)"]
)
def test_nothing_published_stands_beside_other_images(variant: str) -> None:
    made = compared(["vtab/kitti", "vtab/dtd"], variant)
    assert [row.published or row.retuned for row in made.rows] == [None, None]
    assert made.means[0].published is made.means[0].retuned is None
    assert "published" not in rows_csv(made)


def answers(right: Sequence[bool]) -> Predictions:
    """A final's predictions of two classes, from which images it has right."""
    labels = np.arange(len(right), dtype=np.int32) % 2
    predicted = np.where(right, labels, 1 - labels).astype(np.int32)
    ones = np.ones(len(right), np.float32)
    return Predictions(labels, predicted, ones, ones)


def test_the_same_test_images_tell_what_overlapping_intervals_can_not() -> None:
    """Accuracies of seeds overlap, yet one method has right whatever the other has, and more."""
    results, settings = methods(
        {"top": [[70.0, 60.0], [50.0, 50.0]], "near": [[66.0, 56.0], [50.0, 50.0]]}
    )
    assert board(results, **settings).rows[2].ties_with_best
    image = np.arange(1000)
    right = {
        ("top", 0): image < 700,
        ("top", 1): (image < 700) & (image % 7 > 0),
        ("near", 0): (image < 700) & (image % 20 > 0),
        ("near", 1): (image < 700) & (image % 7 > 0) & (image % 20 > 0),
    }
    kept = {
        r.id: answers(right[r.method, r.seed] if r.task == "vtab/dtd" else image % 2 > 0)
        for r in results
        if r.kind == "final"
    }
    made = board(results, **settings, predictions=kept)
    dtd = next(pair for pair in made.pairs if pair.task == "vtab/dtd")
    assert dtd.methods == ("top", "near")
    assert dtd.difference == pytest.approx(
        100 * np.mean([right["top", i].mean() - right["near", i].mean() for i in (0, 1)])
    )
    same = next(pair for pair in made.pairs if pair.task == "vtab/dmlab")
    assert (same.difference, same.p) == (0.0, 1.0)
    assert made.rows[2].ties_with_best is not dtd.told_apart
    means = {pair.scope: pair.difference for pair in made.pairs if pair.task is None}
    assert means["mean_19"] == pytest.approx(dtd.difference / 2)
    assert means["natural"] == pytest.approx(dtd.difference)
    assert json.loads(json.dumps(plain_board(made)))["pairs"][0]["methods"] == ["top", "near"]


def test_finals_on_other_images_are_not_compared() -> None:
    results, settings = methods({"top": [[70.0, 60.0]] * 2, "near": [[66.0, 56.0]] * 2})
    kept = {r.id: answers(np.arange(100) < 60) for r in results if r.kind == "final"}
    other = [
        replace(r, data=replace(r.data, fingerprint="other")) if r.method == "near" else r
        for r in results
    ]
    assert board(results, **settings, predictions=kept).pairs
    assert not board(other, **settings, predictions=kept).pairs
    del kept[next(r.id for r in results if r.kind == "final")]
    pairs = board(results, **settings, predictions=kept).pairs
    assert {pair.task for pair in pairs} == {"vtab/dmlab", None}


def test_calibration_and_balanced_accuracy_are_means_over_kept_predictions() -> None:
    results, settings = methods({"one": [[75.0, 100.0], []]})
    ids = [result.id for result in results if result.kind == "final"]
    labels = np.array([0, 0, 0, 1], np.int32)
    sure, loss = np.full(4, 0.9, np.float32), np.full(4, 2.0, np.float32)
    first = Predictions(labels, np.zeros(4, np.int32), sure, loss)
    second = Predictions(labels, labels, sure, np.zeros(4, np.float32))
    made = board(results, **settings, predictions=dict(zip(ids, (first, second), strict=True)))
    # 3 of 4 right at a confidence of 0.9, then all 4: off by 15 and by 10 points.
    assert made.rows[0].quality == Quality(pytest.approx(75), pytest.approx(12.5), 1.0, 2)
    line, empty = csv.DictReader(io.StringIO(rows_csv(made)))
    assert empty["test_ece"] == ""
    assert float(line["test_ece"]) == pytest.approx(12.5)
    assert line["test_predictions"] == "2"

    damaged = Predictions(labels, labels, sure * np.float32("nan"), loss)
    kept = dict(zip(ids, (first, damaged), strict=True))
    made = board(results, **settings, predictions=kept)
    assert made.rows[0].quality == Quality(50.0, pytest.approx(15), 2.0, 1)
    without = board(results, **settings)
    assert "quality" not in plain_board(without)["rows"][0]
    assert "test_ece" not in rows_csv(without)


def test_what_finals_cost_is_a_mean_and_of_the_card_known_only_where_all_tell() -> None:
    results, settings = methods({"one": [[75.0, 100.0], []]})
    told = {"images_per_second": 30.0, "peak_memory": 10**9, "energy": 500.0}
    first, second = (replace(r, **told, seconds=2.0 + r.seed) for r in results if r.kind == "final")
    searched = [r for r in results if r.kind == "search"]
    made = board([*searched, first, replace(second, energy=700.0)], **settings)
    assert made.rows[0].cost == Cost(2.5, 30.0, 10**9, 600.0)
    assert plain_board(made)["rows"][0]["cost"]["energy"] == 600
    line, empty = csv.DictReader(io.StringIO(rows_csv(made)))
    assert (line["final_energy"], empty["final_energy"]) == ("600.0", "")
    assert method_costs(made) == [MethodCost("b", "one", Cost(2.5, 30.0, 10**9, 600.0))]
    on_cpu = replace(second, energy=None, peak_memory=None)
    assert board([*searched, first, on_cpu], **settings).rows[0].cost == Cost(2.5, 30, 10**9, None)
    older = replace(second, images_per_second=None)
    assert "cost" not in plain_board(board([*searched, first, older], **settings))["rows"][0]
    assert "final_energy" not in rows_csv(board(results, **settings))


def test_without_finals_nothing_is_compared() -> None:
    results, settings = methods({"top": [[], []], "near": [[], []]})
    assert not board(results, **settings, seeds=()).pairs

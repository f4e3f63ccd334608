"""The selection rule and the table, on result files made here."""

import csv
import io
import json
import random
from itertools import count, permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.folder import Result
from orchestrator.leaderboard.select import select
from orchestrator.leaderboard.table import leaderboard, rows_csv

STUDY = ("b", "arc", "vtab/cifar100")
_ids = count()


def result(**fields: Any) -> Result:
    """A search trial's result; a final where `kind` says so."""
    made: Result = {
        "id": f"{next(_ids):016x}",
        "kind": "search",
        "backbone": STUDY[0],
        "method": STUDY[1],
        "task": STUDY[2],
        "config": {"lr": 0.01, "rank": 8},
        "seed": 0,
        "epochs_run": 4,
        "status": "done",
        "note": None,
        "val_accuracy": 50.0,
        "val_loss": 1.0,
        "test_accuracy": None,
        "trainable_params": 1000,
        "adapter_params": 900,
        "curve": [],
        "seconds": 2.0,
        "data": {"variant": "published split", "fingerprint": "f"},
    }
    return {**made, **fields}


def final(seed: int, accuracy: float, **fields: Any) -> Result:
    return result(
        kind="final",
        seed=seed,
        test_accuracy=accuracy,
        val_accuracy=None,
        val_loss=None,
        **fields,
    )


def board(results: list[Result], **fields: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "studies": [STUDY],
        "groups": {STUDY[2]: "natural"},
        "seeds": [0, 1],
    }
    return leaderboard("s", {"final_on": "train+val"}, results, **{**settings, **fields})


def test_ties_go_to_loss_then_parameters_then_lr_then_id() -> None:
    ladder = [
        result(val_accuracy=60.0, val_loss=9.0, trainable_params=9999),
        result(val_loss=0.5, trainable_params=9999),
        result(trainable_params=500, config={"lr": 0.5}),
        result(config={"lr": 0.001}),
        result(id="0" * 16),
        result(id="1" * 16),
    ]
    for i in range(len(ladder)):
        for order in permutations(ladder[i:]):
            assert select(order) is ladder[i]


def test_only_trials_trained_to_the_end_of_a_search_can_win() -> None:
    losers = [
        result(status=status, val_accuracy=99.0) for status in ("stopped", "diverged", "failed")
    ]
    losers.append(final(0, 99.0))
    winner = result(val_accuracy=1.0)
    assert select([*losers, winner]) is winner
    assert select(losers) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_test_accuracies_and_the_order_of_files_never_choose(
    accuracies: list[float], draws: random.Random
) -> None:
    results = [result(val_accuracy=accuracy) for accuracy in accuracies]
    winner = select(results)
    shuffled = [{**r, "test_accuracy": draws.uniform(0, 100)} for r in results]
    draws.shuffle(shuffled)
    chosen = select(shuffled)
    assert winner
    assert chosen
    assert chosen["id"] == winner["id"]


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
    (row,) = made["rows"]
    assert row["config"] == better
    assert row["test_accuracy"]["seeds"] == [65.0, 61.0]
    assert row["test_accuracy"]["mean"] == 63.0
    assert round(row["test_accuracy"]["std"], 4) == 2.8284
    assert (row["trials"], row["statuses"]) == (3, {"diverged": 1, "done": 2})
    assert row["trainable_params"] == 2000
    json.dumps(made, allow_nan=False)


def test_one_seed_has_no_deviation_and_none_has_no_accuracy() -> None:
    one = board([result(), final(0, 60.0)])["rows"][0]["test_accuracy"]
    assert one == {"mean": 60.0, "std": None, "n": 1, "seeds": [60.0], "ci95": None}
    (row,) = board([result()])["rows"]
    assert row["test_accuracy"] is None
    (row,) = board([])["rows"]
    assert row["config"] is None
    assert (row["trials"], row["val_accuracy"]) == (0, None)


def test_both_averages_and_over_how_many_tasks_they_go() -> None:
    tasks = {
        "vtab/cifar100": "natural",
        "vtab/dtd": "natural",
        "vtab/eurosat": "specialized",
        "vtab/dmlab": "structured",
        "fgvc/cub200": "fgvc",
    }
    studies = [("b", "arc", task) for task in tasks]
    results = []
    for task, accuracy in zip(tasks, (80.0, 60.0, 90.0, 40.0), strict=False):
        results += [result(task=task), final(0, accuracy, task=task)]
    (mean,) = board(results, studies=studies, groups=tasks)["means"]
    assert (mean["n_tasks"], mean["n_expected"]) == (4, 5)
    assert mean["n_by_group"] == {"natural": 2, "specialized": 1, "structured": 1, "fgvc": 0}
    assert mean["mean_19"] == mean["mean"] == 67.5
    assert mean["natural"] == 70.0
    assert round(mean["mean_groups"], 4) == 66.6667
    assert mean["fgvc"] is None
    assert mean["params_mean"] == 1000


def test_csv_has_a_line_for_each_row_and_quotes_what_needs_it() -> None:
    other = ("b", "linear", 'odd,"name"')
    made = board(
        [result(), final(0, 60.0), result(method=other[1], task=other[2], config={"lr": 0.5})],
        studies=[STUDY, other],
        groups={STUDY[2]: "natural", other[2]: "demo"},
    )
    first, second = csv.DictReader(io.StringIO(rows_csv(made)))
    assert (first["test_accuracy"], first["test_seeds"], first["rank"]) == ("60.0", "1", "8")
    assert (second["task"], second["test_accuracy"], second["rank"]) == (other[2], "", "")

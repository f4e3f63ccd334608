"""Several sweeps in one table: what is joined, what is refused, and what the table says of it."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.cli import main
from orchestrator.store.result import DataInfo, WeightsInfo
from tests.finished import finished

IMAGES = 200
LABELS = [0, 1] * (IMAGES // 2)
MEAN = (0.5, 0.5, 0.5)
DATA = DataInfo(variant="published split", fingerprint="f", val_images=200)


def answers(*wrong: int) -> Any:
    """Of each seed, the first so many images wrong: [seeds, images]."""
    image = np.arange(IMAGES)
    return np.stack([np.where(image < count, 1 - image % 2, image % 2) for count in wrong])


def shown(capsys: pytest.CaptureFixture[str], *places: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, the table as JSON and what was said, of the command on some folders."""
    code = main(["leaderboard", *map(str, places), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code == 0 else {}, said.err


def test_a_method_of_two_sweeps_has_a_line_for_each_and_they_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "old", LABELS, {"vtab/dtd": {"arc": answers(90, 92)}})
    finished(
        tmp_path / "new",
        LABELS,
        {"vtab/dtd": {"arc": answers(20, 22), "lora": answers(21, 23)}},
        {"search": {"trials": 32}},
    )
    place = tmp_path / "deep" / "both"
    code, board, _ = shown(capsys, tmp_path / "old", tmp_path / "new", "--to", place)
    assert code == 0
    assert {row["method"]: row["sweep"] for row in board["rows"]} == {
        "arc (old)": "old",
        "arc (new)": "new",
        "lora (new)": "new",
    }
    pairs = {tuple(pair["methods"]): pair for pair in board["pairs"] if pair["task"]}
    assert pairs["arc (old)", "arc (new)"]["difference"] == pytest.approx(-35)
    assert pairs["arc (old)", "arc (new)"]["p_corrected"] < 0.05
    assert board["differences"] == ["search.trials 16 in old, 32 in new"]
    assert json.loads((place / "leaderboard.json").read_text()) == board
    lines = list(csv.DictReader((place / "leaderboard.csv").open()))
    assert [line["sweep"] for line in lines] == ["old", "new", "new"]
    page = (place / "leaderboard.html").read_text()
    assert "NOT THE SAME EFFORT in these sweeps: search.trials 16 in old, 32 in new" in page
    assert 'data-method="arc (old)" data-family="shared' in page
    assert not list(tmp_path.glob("*/leaderboard.*"))  # the sweeps' own are as they were


def test_a_method_that_sweeps_ran_on_different_tasks_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a", LABELS, {"vtab/dtd": {"arc": answers(20), "lora": answers(20)}})
    finished(tmp_path / "b", LABELS, {"vtab/dmlab": {"arc": answers(60)}})
    code, board, said = shown(capsys, tmp_path / "a", tmp_path / "b")
    assert code == 0
    means = {mean["method"]: mean for mean in board["means"]}
    assert (means["arc"]["mean"], means["arc"]["n_tasks"]) == (80, 2)
    lora = means["lora (a)"]  # its only task is the easier one: no mean, and no best
    assert (lora["mean"], lora["n_tasks"], lora["n_expected"]) == (90, 1, 2)
    assert (lora["best"]["mean"], means["arc"]["best"]["mean"]) == (False, True)
    assert [row.get("sweep") for row in board["rows"]] == ["a", "b", "a", None]
    main(["leaderboard", str(tmp_path / "a"), str(tmp_path / "b")])
    assert "* over 1 of 2 tasks: lora (a)" in capsys.readouterr().out
    assert "differences" not in board
    assert "--to FOLDER" in said


@pytest.mark.parametrize(
    ("spec", "fields", "reason"),
    [
        ({"protocol": {"final_on": "train"}}, {}, "finals train on train+val in a and on train in"),
        ({"finals": {"seeds": [0]}}, {}, "the seeds of finals are 0, 1 in a and 0 in b"),
        ({}, {"data": replace(DATA, fingerprint="other")}, "vtab/dtd has other images"),
        (
            {},
            {"weights": WeightsInfo(source="w", revision=None, sha256="22", mean=MEAN, std=MEAN)},
            "tiny has other weights",
        ),
    ],
)
def test_sweeps_whose_finals_mean_something_else_are_refused(
    spec: Any,
    fields: dict[str, Any],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = WeightsInfo(source="w", revision=None, sha256="11", mean=MEAN, std=MEAN)
    known = {"weights": weights, "data": DATA}
    finished(tmp_path / "a", LABELS, {"vtab/dtd": {"arc": answers(20, 21)}}, **known)
    finished(
        tmp_path / "b", LABELS, {"vtab/dtd": {"lora": answers(20, 21)}}, spec, **known | fields
    )
    code, _, said = shown(capsys, tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert said.startswith("arc-sweep: a and b can't stand in one table: ")
    assert reason in said
    assert len(said.splitlines()) == 1


def test_one_sweep_twice_is_refused_and_two_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    for place in ("here", "there"):
        finished(tmp_path / place / "pets", LABELS, {"vtab/dtd": {"arc": answers(20, 21)}})
    code, board, _ = shown(capsys, tmp_path / "here/pets", tmp_path / "there/pets")
    assert code == 0
    assert [row["sweep"] for row in board["rows"]] == ["here/pets", "there/pets"]
    code, _, said = shown(capsys, tmp_path / "here/pets", tmp_path / "there/../here/pets")
    assert code == 2
    assert "is given twice" in said


def test_of_a_sweep_without_its_spec_the_table_says_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a", LABELS, {"vtab/dtd": {"arc": answers(20, 21)}})
    bare = finished(tmp_path / "b", LABELS, {"vtab/dtd": {"lora": answers(20, 21)}})
    bare.spec.unlink()
    code, board, _ = shown(capsys, tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert board["protocol"]["final_on"] is None
    assert board["differences"] == ["how b was searched and trained isn't known (no spec.yaml)"]

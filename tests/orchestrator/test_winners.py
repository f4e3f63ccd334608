"""Winners travel: what won in one sweep is what the next one tries, and nothing else."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from arc_train.errors import InputError
from orchestrator.cli import main
from orchestrator.plan import Identity, budget, studies
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, dump, load, resolve
from orchestrator.store.folder import SweepFolder
from tests.results import result

TASKS = ["demo/digits", "demo/count"]
IDENTITY = Identity({"arc_pico": "w"}, dict.fromkeys(TASKS, "d"))
RAW: dict[str, Any] = {
    "name": "x",
    "tasks": TASKS,
    "methods": ["linear", "arc"],
    "backbones": ["arc_pico"],
    "search": {"trials": 3, "algorithm": "random"},
    "selection": {"revalidate": 1},
    "finals": {"seeds": [0, 1]},
}
ARC = "arc_pico/arc/demo/digits"


def folder_of(spec: Spec, path: Path) -> SweepFolder:
    folder = SweepFolder(path)
    folder.create()
    folder.write_spec(dump(spec))
    return folder


def searched(spec: Spec, path: Path) -> SweepFolder:
    """A sweep's folder, in which every trial has ended; each accuracy is the learning rate's."""
    folder = folder_of(spec, path)
    search = SweepSearch(spec, IDENTITY, folder)
    while (plan := search.next()) is not None:
        for trial in plan.trials:
            accuracy = 90 / (1 + float(trial.config["lr"]))
            tested = 0.9 * accuracy if plan.kind == "final" else None
            made = result(**asdict(plan.info(trial)), val_accuracy=accuracy, test_accuracy=tested)
            folder.write_result(made)
        search.ended(plan)
    return folder


def test_the_sweep_file_of_winners_trains_them_alone_with_the_same_finals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = searched(resolve(RAW, "x"), tmp_path / "x")
    out = tmp_path / "again.yaml"
    assert main(["winners", str(before.path), "-o", str(out)]) == 0
    assert "demo/count" in capsys.readouterr().out
    spec = load(out)
    assert spec.name == "x-winners"
    assert [budget(spec, study) for study in studies(spec)] == [1] * 4
    after = searched(spec, tmp_path / "again").results()
    earlier = before.results()
    assert after.items() <= earlier.items()
    kinds = [trial.kind for trial in after.values()]
    assert (kinds.count("search"), kinds.count("final")) == (4, 8)
    assert {t for t, r in earlier.items() if r.kind == "final"} <= after.keys()


def test_the_table_is_csv_and_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(searched(resolve(RAW, "x"), tmp_path / "x").path)
    out = ["-o", str(tmp_path / "x.yaml")]
    assert main(["winners", place, *out, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["winners"]
    assert main(["winners", place, *out, "--csv"]) == 0
    cells = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == len(cells) == 4
    for row, line in zip(rows, cells, strict=True):
        assert float(line["lr"]) == row["config"]["lr"]
        assert (row["finals"], row["searched"], row["expected"]) == (2, 3, 3)
        assert row["test_accuracy"] == pytest.approx(0.9 * row["val_accuracy"])
    assert "rank" not in rows[0]["config"]
    assert cells[0]["rank"] == ""


def test_a_study_without_a_winner_is_searched_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(resolve(RAW, "x"), tmp_path / "x")
    assert main(["winners", "x"]) == 2
    assert "no study" in capsys.readouterr().err
    config = {"lr": 0.01, "rank": 8, "weight_decay": 0.0, "dropout": 0.0}
    folder.write_result(
        result(backbone="arc_pico", method="arc", task="demo/digits", config=config)
    )
    assert main(["winners", "x"]) == 0
    assert capsys.readouterr().err.count("no winner yet") == 3
    spec = load("x-winners.yaml")
    assert sorted(budget(spec, study) for study in studies(spec)) == [1, 3, 3, 3]
    assert spec.selection.revalidate == 1
    Path("x-winners.yaml").write_text("edited")
    assert main(["winners", "x"]) == 2
    assert "remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fixed", "told"),
    [
        ({"arc_pico/arc/demo/digit": {"rank": 8}}, f"did you mean {ARC!r}"),
        ({ARC: {"rnk": 8}}, "'rnk' at search.fixed"),
        ({ARC: {"rank": [8, 16]}}, "must be one value"),
        ({ARC: {"lr": {"log": [0.001, 0.1]}}}, "must be one value"),
        ({ARC: {"rank": 1.5}}, "whole number"),
        ({ARC: 8}, "search.fixed"),
    ],
)
def test_what_cannot_be_fixed_is_told(fixed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=r"search\.fixed") as error:
        resolve({**RAW, "search": {"fixed": fixed}}, "x")
    assert told in str(error.value)


@pytest.mark.parametrize("algorithm", ["portfolio", "random", "tpe"])
def test_what_is_fixed_in_one_study_is_searched_in_the_others(
    algorithm: str, tmp_path: Path
) -> None:
    """Also by searchers that learn from the others, whose values this one can't take."""
    search = {"trials": 4, "algorithm": algorithm, "fixed": {ARC: {"rank": 7, "dropout": 0.3}}}
    spec = resolve({**RAW, "methods": "arc", "search": search}, "x")
    tried: dict[str, set[float]] = {}
    for trial in searched(spec, tmp_path / "x").results().values():
        tried.setdefault(str(trial.study), set()).add(float(trial.config["rank"]))
    assert tried[ARC] == {7}
    assert 7 not in tried["arc_pico/arc/demo/count"]

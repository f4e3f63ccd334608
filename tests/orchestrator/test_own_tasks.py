"""Tasks of the user's own in sweep files, ids, leaderboards and exports."""

import csv
import io
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from arc_train.errors import InputError
from orchestrator.cli import main
from orchestrator.leaderboard.board import Board, Mean, Protocol, plain_board
from orchestrator.leaderboard.grid import grid, statement
from orchestrator.leaderboard.latex import latex
from orchestrator.leaderboard.means import mean_names
from orchestrator.leaderboard.rows_csv import rows_csv
from orchestrator.leaderboard.table import leaderboard
from orchestrator.plan import Identity, search_trials, studies
from orchestrator.spec import Spec, dump, load, resolve
from orchestrator.spec.own import RESERVED
from orchestrator.store.result import DataInfo, Study
from tests.arc_train.test_own import folders
from tests.results import final, result
from tests.sweeps import SPEC, Sweep


def spec(*tasks: Any, **changes: Any) -> Spec:
    raw = {"name": "x", "tasks": list(tasks), "methods": ["arc"], "backbones": ["arc_pico"]}
    return resolve({**raw, **changes}, "x.yaml")


def test_own_tasks_stand_beside_those_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERE", str(tmp_path / "there"))
    made = spec(
        {"name": "beans", "folder": "beans"},
        "demo/digits",
        {"name": "peas", "list": "${HERE}/peas.csv", "group": "green", "resize": "crop"},
        {"name": "corn", "dataset": "./corn"},
        {"name": "rice", "dataset": "user/rice"},
    )
    assert list(made.catalog) == ["beans", "demo/digits", "peas", "corn", "rice"]
    places = [task.location for task in made.catalog.values()]
    assert [place and (place.folder, place.list, place.dataset) for place in places] == [
        (tmp_path / "beans", None, None),
        None,
        (None, tmp_path / "there/peas.csv", None),
        (tmp_path / "corn", None, None),
        (None, None, "user/rice"),
    ]
    (tmp_path / "again.yaml").write_text(dump(made))
    assert load(tmp_path / "again.yaml") == made


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"name": "vtab/pets", "folder": "x"}, "tasks[0].name 'vtab/pets' is of the catalogue"),
        ({"name": "demo", "folder": "x"}, "'demo' is of the catalogue"),
        ({"name": "a/b", "folder": "x"}, "tasks[0].name must be of letters, digits"),
        ({"name": "a"}, "tasks[0] must have a folder, a list or a dataset"),
        ({"name": "a", "folder": "x", "dataset": "y"}, "must have a folder, a list or a dataset"),
        ({"folder": "x"}, "tasks[0].name is missing"),
        ({"name": "a", "foldr": "x"}, "'foldr' at tasks[0].foldr; did you mean 'folder'?"),
        ({"name": "a", "folder": 3}, "tasks[0].folder must be"),
        ({"name": "a", "folder": "${NOT_SET}"}, "NOT_SET is not set"),
        ({"name": "a", "folder": "x", "metric": "f1"}, "tasks[0].metric must be 'accuracy' or"),
        ({"name": "a", "folder": "x", "resize": "squish"}, "did you mean 'squash'?"),
        ({"name": "a", "folder": "x", "group": "natural"}, "tasks[0].group 'natural' means"),
        ({"name": "a", "folder": "x", "group": "mean_19"}, "tasks[0].group 'mean_19' means"),
    ],
)
def test_faults_of_own_tasks_are_named(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        spec(entry)
    assert str(caught.value).count("\n") == 0


def test_two_tasks_cannot_have_one_name() -> None:
    with pytest.raises(InputError, match="'a' stands twice at tasks"):
        spec({"name": "a", "folder": "x"}, {"name": "a", "folder": "y"})


def test_no_group_can_be_taken_for_a_mean_or_a_field_of_the_leaderboard() -> None:
    taken = {field.name for field in fields(Mean)} - {"averages"} | set(mean_names([]))
    assert taken <= RESERVED


def test_ids_depend_on_the_definition_and_the_images_and_on_no_path() -> None:
    def ids(fingerprint: str = "f", **task: Any) -> set[str]:
        made = spec({"name": "a", "folder": "/x", **task}, "demo/digits")
        identity = Identity({"arc_pico": "w"}, {"a": fingerprint, "demo/digits": "d"})
        own, _ = studies(made)
        return {trial.id for trial in search_trials(made, own, identity, [{"lr": 0.1}])}

    kinds: list[dict[str, Any]] = [
        {},
        {"fingerprint": "g"},
        {"metric": "balanced_accuracy"},
        {"resize": "crop"},
        {"augment": "crop+flip"},
        {"name": "b"},
    ]
    every = [ids(**kind) for kind in kinds[:-1]]
    assert len(set().union(*every)) == len(every)
    assert ids() == ids(folder="/elsewhere") == ids(group="green")


def own_board(**data: Any) -> Board:
    groups = {"vtab/dtd": "natural", "beans": "own", "peas": "own"}
    results, made = [], []
    for task, accuracy in zip(groups, (50.0, 80.0, 90.0), strict=True):
        info = DataInfo(variant="v", fingerprint="f", val_images=20, **data)
        results.append(result(task=task, data=info))
        results += [final(seed, accuracy, task=task, data=info) for seed in (0, 1)]
        made.append(Study("b", "arc", task))
    return leaderboard("s", Protocol("train+val", False, (0, 1)), results, made, groups)


def test_own_tasks_have_their_own_mean_and_are_in_none_of_vtab() -> None:
    (mean,) = plain_board(own_board())["means"]
    assert (mean["own"], mean["natural"]) == (85.0, 50.0)
    assert (mean["mean_19"], mean["mean_groups"]) == (50.0, 50.0)
    assert mean["n_by_group"]["own"] == 2
    titles = [column.title for column in grid(own_board()).columns]
    assert titles == ["mean", "params", "natural\n1 of 7", "own", "dtd", "beans", "peas"]
    tables = latex(own_board()).split(r"\begin{table*}")[1:]
    assert ["beans" in table for table in tables] == [False, True]
    assert "peas" in tables[1]


def test_a_board_says_which_accuracies_are_balanced() -> None:
    board = own_board(metric="balanced_accuracy", class_names=("ant", "bee"))
    assert "Balanced accuracy, the mean over classes: dtd, beans, peas." in statement(board)
    assert all(row.ties is None for row in board.rows)  # binomial errors don't hold
    assert plain_board(board)["rows"][1]["class_names"] == ("ant", "bee")
    assert "Balanced" not in statement(own_board())
    lines = list(csv.DictReader(io.StringIO(rows_csv(board))))
    assert {line["metric"] for line in lines} == {"balanced_accuracy"}
    assert "metric" not in rows_csv(own_board())


@pytest.mark.parametrize("name", ["beans", "my beans: 100 % # new", "vtab", "123", "..", "Äpfel"])
def test_init_writes_a_sweep_file_that_is_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folders(tmp_path / "in" / name / "images" if name == ".." else tmp_path / "in" / name)
    folders(folder, 40, ["dog"])
    assert main(["init", str(folder), "-o", "out.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "class folders with 70 images of 4 classes: ant 10, bee 10, cat 10, dog 40" in printed
    assert "val and test drawn with seed 0" in printed
    made = load(tmp_path / "out.yaml")
    (task,) = made.catalog.values()
    assert task.location is not None
    assert task.location.folder == folder
    assert "differ 4-fold" in (tmp_path / "out.yaml").read_text()
    assert main(["init", str(folder), "-o", "out.yaml"]) == 2
    assert "exists" in capsys.readouterr().err


def test_data_check_and_plan_read_the_tasks_of_a_sweep_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.yaml"
    task = {"name": "beans", "folder": str(folders(tmp_path / "beans"))}
    file.write_text(json.dumps({**SPEC, "tasks": [task], "data": {"cache": str(tmp_path / "c")}}))
    assert main(["data", "check", str(file)]) == 0
    assert "classes ant 10, bee 10, cat 10" in capsys.readouterr().out
    assert main(["data", "prepare", str(file)]) == 0
    assert "resize 32x32" in capsys.readouterr().out
    assert main(["plan", str(file), "--gpu", "h100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["studies"] == 2
    (tmp_path / "beans").rename(tmp_path / "gone")
    assert main(["plan", str(file)]) == 2
    assert capsys.readouterr().err.startswith("arc-sweep: task beans: no folder ")


@pytest.mark.slow
def test_a_sweep_on_own_images_from_folder_to_export(
    sweep: Sweep, on_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"name": "beans", "folder": str(folders(tmp_path / "beans"))}
    task |= {"metric": "balanced_accuracy", "augment": "crop+flip"}
    changes = {"tasks": [task, "demo/digits"], "methods": ["arc"], "finals": {"seeds": [0]}}
    sweep.write({**sweep.spec, **changes})
    code, _, err = sweep.run()
    assert code == 0, err
    own, digits = json.loads((sweep.folder / "leaderboard.json").read_text())["rows"]
    assert (own["group"], own["metric"]) == ("own", "balanced_accuracy")
    assert own["class_names"] == ["ant", "bee", "cat"]
    assert "metric" not in digits
    kept = [r for r in sweep.results().values() if r["task"] == "beans"]
    assert {r["data"]["split"] for r in kept} == {"drawn"}
    assert {r["data"]["variant"] for r in kept} == {own["variants"][0]}
    out = tmp_path / "out"
    assert main(["export", str(sweep.folder), "tiny/arc/beans", "-o", str(out), "--fold"]) == 0
    assert json.loads((out / "config.json").read_text())["label_names"] == ["ant", "bee", "cat"]
    sweep.write({**sweep.spec, "tasks": [task | {"resize": "crop"}, "demo/digits"]})
    code, _, err = sweep.run()
    assert code == 2
    assert "another tasks.beans.resize" in err

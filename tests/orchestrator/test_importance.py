"""What matters: shares that are known beforehand are found, and chance is called chance."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arc_train.hyperparameters.importance import importance
from arc_train.hyperparameters.searchers import Observation
from arc_train.hyperparameters.space import Config, Space, parse, random_configs
from orchestrator.cli import main
from orchestrator.spec import dump, resolve
from orchestrator.store.folder import SweepFolder
from tests.results import result

TASKS = ["demo/digits", "demo/count", "demo/location", "demo/orientation"]
OVERRIDES: dict[str, Any] = {
    "rank": [4, 8, 16],
    "lr": {"log": [0.001, 0.1]},
    "weight_decay": 0,
    "dropout": {"uniform": [0, 0.5]},
}
SPACE: Space = {name: parse(name, value) for name, value in OVERRIDES.items()}


def tasks(accuracy: Callable[[Config, random.Random], float | None]) -> list[list[Observation]]:
    draws = random.Random(0)
    return [
        [Observation(c, accuracy(c, draws)) for c in random_configs(SPACE, seed, 30)]
        for seed in range(4)
    ]


def test_known_shares_are_found() -> None:
    """The rank has variance 2/3 in places of -1, 0, 1; the dropout 1/12 of 4: a third of it."""

    def accuracy(config: Config, draws: random.Random) -> float:
        place = {4: -1, 8: 0, 16: 1}[int(config["rank"])]
        return 50 + place + 4 * float(config["dropout"]) + draws.gauss(0, 0.1)

    found = importance(SPACE, tasks(accuracy))
    assert found is not None
    assert found.alone.keys() == {"rank", "lr", "dropout"}
    assert found.alone["rank"].value == pytest.approx(67, abs=12)
    assert found.alone["dropout"].value == pytest.approx(33, abs=12)
    assert found.alone["lr"].value < 3
    assert found.unseen is not None
    assert found.unseen > 80
    low, high = found.alone["rank"].ci95 or (0, 0)
    assert low < found.alone["rank"].value < high < 100


def test_what_only_works_together_counts_in_the_totals() -> None:
    def accuracy(config: Config, _: random.Random) -> float:
        return 60.0 if (config["rank"] == 16) == (float(config["dropout"]) > 0.25) else 40.0

    found = importance(SPACE, tasks(accuracy))
    assert found is not None
    for name in ("rank", "dropout"):
        assert found.total[name].value > 60
        assert found.alone[name].value < 30


def test_chance_is_called_chance() -> None:
    found = importance(SPACE, tasks(lambda _, draws: draws.gauss(50, 3)))
    assert found is not None
    assert found.unseen is not None
    assert found.unseen <= 0


def test_a_divergence_is_as_bad_as_the_worst_and_nothing_comes_of_nothing() -> None:
    found = importance(SPACE, tasks(lambda c, d: None if float(c["lr"]) > 0.02 else d.gauss(50, 1)))
    assert found is not None
    assert max(found.alone, key=lambda name: found.alone[name].value) == "lr"
    assert importance(SPACE, tasks(lambda *_: 50.0)) is None
    assert importance(SPACE, []) is None
    assert importance({"lr": SPACE["lr"]}, tasks(lambda *_: 50.0)) is None


def searched(path: Path) -> SweepFolder:
    """A sweep whose better half goes on after epoch 1; at its end the rank decides, before lr."""
    folder = SweepFolder(path)
    folder.create()
    raw = {"name": "x", "tasks": TASKS, "methods": ["linear", "arc"], "backbones": ["arc_pico"]}
    folder.write_spec(dump(resolve({**raw, "search": {"space": {"arc": OVERRIDES}}}, "x")))
    for seed, task in enumerate(TASKS):
        for config in random_configs(SPACE, seed, 16):
            early, late = 100 * float(config["lr"]), float(config["rank"])
            curve = [(1, 1.0, 1.0, early), (2, 1.0, 1.0, late)][: 1 + (early > 1)]
            folder.write_result(
                result(
                    backbone="arc_pico",
                    task=task,
                    config=config,
                    status="done" if early > 1 else "stopped",
                    val_accuracy=late if early > 1 else early,
                    curve=curve,
                )
            )
    return folder


def test_the_command_compares_all_trials_after_the_same_epoch_and_the_page_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(searched(tmp_path / "x").path)
    assert main(["leaderboard", place]) == 0
    assert "What matters" not in (tmp_path / "x/leaderboard.html").read_text()
    capsys.readouterr()
    assert main(["importance", place, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["methods"]
    assert (row["method"], row["epoch"], row["importance"]["trials"]) == ("arc", 1, 64)
    assert row["importance"]["alone"]["lr"]["value"] > 90
    assert main(["importance", place, "--csv"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {line["hyperparameter"] for line in lines} == {"rank", "lr", "dropout"}
    for line in lines:
        value = row["importance"]["alone"][line["hyperparameter"]]["value"]
        assert float(line["alone"]) == value
    assert main(["importance", place]) == 0
    assert "what matters" in capsys.readouterr().out
    assert main(["leaderboard", place]) == 0
    page = (tmp_path / "x/leaderboard.html").read_text()
    assert "What matters" in page
    assert "makes it anew" not in page
    (tmp_path / "x/importance.json").write_text("{")
    assert main(["leaderboard", place]) == 0


def test_a_folder_that_tells_nothing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SweepFolder(tmp_path)
    folder.create()
    folder.write_result(result())
    assert main(["importance", str(tmp_path)]) == 2
    assert "no method" in capsys.readouterr().err

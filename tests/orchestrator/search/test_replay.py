"""Replays: the searchers of sweeps against a table of finished trials."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from arc_train.errors import InputError
from orchestrator.cli import main
from orchestrator.search.replay import QUARTER, replay
from orchestrator.search.trial_table import COLUMNS, gaps, read

SHARED = Path(__file__).parents[4] / "shared" / "data" / "replay"
LRS, RANKS, WDS = (1e-4, 1e-3, 1e-2, 1e-1), (1, 2, 4, 8, 16), (0.0, 0.01)


def rows() -> list[dict[str, Any]]:
    """Six tasks that agree about the learning rate and differ a little about the rank."""
    return [
        {
            "task": f"task{task}",
            "method": "m",
            "rank": rank,
            "lr": lr,
            "wd": wd,
            "other": json.dumps({"flag": wd > 0, "init": "a"}),
            "val_loss": 1.0,
            "val_accuracy": 80
            - 8 * abs(math.log10(lr) + 2)
            - abs(math.log2(rank) - task / 2)
            + 10 * wd,
        }
        for task in range(6)
        for lr in LRS
        for rank in RANKS
        for wd in WDS
    ]


def table(path: Path, content: list[dict[str, Any]], columns: Any = COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(content)
    return path


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repetitions of random search: enough to tell, not to publish."""
    monkeypatch.setattr("orchestrator.search.replay.RANDOM_SEEDS", 20)


def test_the_portfolio_leaves_less_than_chance_and_a_whole_grid_nothing(tmp_path: Path) -> None:
    cells = read(table(tmp_path / "t.csv", rows()))
    assert len(cells) == 6
    assert len(cells[0].trials) == 40
    by_method = {row.method: row for row in replay(cells, "portfolio", 8, seeds=1, rounds=2)}
    assert by_method["m"].cells == by_method["all"].cells == 6
    regret, chance = by_method["all"].regret, by_method["all"].random
    assert list(regret) == ["4", "8", QUARTER]
    assert regret["4"] < 0.5 * chance["4"]
    assert regret[QUARTER] <= regret["8"] <= regret["4"]
    (whole,) = {row.regret["40"] for row in replay(cells, "grid", 40, seeds=1, rounds=1)}
    assert whole == 0


def test_nothing_of_the_task_under_test_is_learned_from(tmp_path: Path) -> None:
    """Worse results on one task change what is proposed on others, never on itself at first."""
    honest = read(table(tmp_path / "a.csv", rows()))
    changed = rows()
    for row in changed:
        if row["task"] == "task0" and row["lr"] == 1e-2:
            row["val_accuracy"] = 81.0  # all alike and best: whichever comes first wins
    other = read(table(tmp_path / "b.csv", changed))
    alone = [cell for cell in other if cell.task == "task0"]
    rest = [cell for cell in honest if cell.task != "task0"]
    with_own, without = (
        replay(cells, "portfolio", 4, seeds=1, rounds=1)[0].regret["4"]
        for cells in ([*rest, *alone], [*alone, *rest])
    )
    assert with_own == without


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": "fast"}, ["t.csv:2", "lr must be a number", "'fast'"]),
        ({"lr": "nan"}, ["t.csv:2", "lr must be finite"]),
        ({"other": "{"}, ["t.csv:2", "other must be a JSON object"]),
        ({"other": "[1]"}, ["t.csv:2", "flat JSON object"]),
        ({"other": '{"new": 1}'}, ["t.csv:3", "other hyperparameters"]),
        ({"wd": 0.01, "other": json.dumps({"flag": True, "init": "a"})}, ["t.csv:3", "already"]),
    ],
)
def test_wrong_tables_are_refused_with_the_line(
    tmp_path: Path, change: dict[str, Any], says: list[str]
) -> None:
    content = rows()
    content[0] |= change
    with pytest.raises(InputError) as caught:
        read(table(tmp_path / "t.csv", content))
    for part in says:
        assert part in str(caught.value)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks column wd"):
        read(table(tmp_path / "a.csv", rows(), [c for c in COLUMNS if c != "wd"]))
    with pytest.raises(InputError, match="no lines below"):
        read(table(tmp_path / "b.csv", []))
    with pytest.raises(InputError, match="can't read table"):
        read(tmp_path / "none.csv")
    failed = [{**row, "val_accuracy": ""} for row in rows()]
    with pytest.raises(InputError, match="no trial of m on task0"):
        read(table(tmp_path / "c.csv", failed))


def test_a_diverged_trial_never_wins(tmp_path: Path) -> None:
    content = rows()
    for row in content[::3]:
        row["val_accuracy"] = ""
    regret = replay(read(table(tmp_path / "t.csv", content)), "random", 4, seeds=2, rounds=1)
    assert all(0 <= value < 60 for value in regret[-1].regret.values())


def test_gaps_are_means_over_tasks(tmp_path: Path) -> None:
    columns = ["task", "method", "test_accuracy_last", "test_accuracy_best_epoch"]
    content = [dict(zip(columns, row, strict=True)) for row in
               (("a", "full", 60, 70), ("b", "full", 50, 54), ("a", "linear", 40, 41))]  # fmt: skip
    full, linear = gaps(table(tmp_path / "finals.csv", content, columns))
    assert (full.tasks, full.last, full.best_epoch, full.gap) == (2, 55, 62, 7)
    assert (linear.gap, full.largest_gap) == (1, 10)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["replay", str(table(tmp_path / "t.csv", rows())), "--trials", "4"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["regret"][-1]["method"] == "all"
    for wrong in (["--algorithm", "magic"], ["--trials", "0"], ["--finals", "none.csv"]):
        assert main([*command, *wrong]) == 2
        assert capsys.readouterr().err.startswith("arc-sweep: ")


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not beside the project")
def test_on_a_real_table_the_portfolio_beats_chance() -> None:
    cells = [c for c in read(SHARED / "trials.csv") if c.method in ("fact_tt", "lora")]
    found = replay(cells, "portfolio", 4, seeds=1, rounds=2)[-1]
    assert found.cells == 20
    assert found.regret["4"] < 0.7 * found.random["4"]

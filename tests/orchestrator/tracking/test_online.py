"""The real W&B client online, against a stand-in of its server: what arrives, and how often."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.cli import main
from orchestrator.store.adapter import adapter_bytes
from orchestrator.store.result import Result
from orchestrator.tracking.tracker import Tracker
from tests.gate import Gate, wait_until
from tests.orchestrator.tracking.test_tracker import (
    GROUPS,
    environment,
    kill_while_it_logs,
    problem_of_child,
    result,
    track,
)
from tests.wandb_server import WandbServer

CURVE = [
    {"epoch": 1, "train_loss": 2.5},
    {"epoch": 2, "train_loss": 2.0, "val_loss": 1.25, "val_accuracy": 61.5},
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    import wandb

    server = WandbServer()
    wandb.teardown()  # the client reads its environment once
    with server.serving():
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()


def some(count: int) -> list[Result]:
    return [result(f"{i:016x}") for i in range(count)]


def complete(server: WandbServer, results: list[Result]) -> bool:
    """Whether every trial arrived once and whole."""
    assert set(server.runs) == {entry.id for entry in results}
    return all(run.history == CURVE and run.exit_code == 0 for run in server.runs.values())


def test_a_run_arrives_as_the_result_has_it(server: WandbServer, tmp_path: Path) -> None:
    assert track(tmp_path, some(1), "online").problem is None
    run = server.runs[result(f"{0:016x}").id]
    assert run.name == "arc · cifar100 · r50 lr0.003 drop0.1 wd0"
    assert (run.project, run.group, run.job_type) == (
        "sweep",
        "arc_pico/arc/vtab/cifar100",
        "search",
    )
    assert run.tags == ["natural", "arc", "arc_pico"]
    assert run.config["lr"] == 0.003
    assert run.config["task_group"] == "natural"
    assert run.summary["val_accuracy"] == 61.5
    assert complete(server, some(1))


def test_nothing_is_sent_twice(server: WandbServer, tmp_path: Path) -> None:
    track(tmp_path, some(3), "online")
    asked = len(server.operations)
    assert track(tmp_path, some(3), "online").problem is None
    assert track(tmp_path, some(3), "offline").problem is None
    assert len(server.operations) == asked
    assert list((tmp_path / "wandb").glob("offline-run-*")) == []


def test_what_ran_offline_is_sent_when_online_is_wanted(
    server: WandbServer, tmp_path: Path
) -> None:
    track(tmp_path, some(3), "offline")
    assert server.runs == {}
    assert track(tmp_path, some(4), "online").problem is None
    assert complete(server, some(4))


@pytest.mark.slow
def test_a_trial_in_training_shows_its_curve_and_ends_whole(
    server: WandbServer, tmp_path: Path
) -> None:
    tracker = Tracker(tmp_path, "sweep", "online", None, None, GROUPS)
    trial = result()
    tracker.rows(trial, trial.curve[:1])
    run = arrived(server, trial.id, 1)
    assert run.history == CURVE[:1]
    assert (run.exit_code, run.group) == (None, "arc_pico/arc/vtab/cifar100")
    tracker.log(trial)
    tracker.close()
    assert tracker.problem is None
    assert complete(server, [trial])


@pytest.mark.slow
def test_a_live_run_cut_by_the_end_of_the_driver_is_completed_by_the_next(
    server: WandbServer, tmp_path: Path
) -> None:
    trial = result(curve=[[epoch, 2.0, None, None] for epoch in range(1, 6)])
    first = Tracker(tmp_path, "sweep", "online", None, None, GROUPS)
    first.rows(trial, trial.curve[:3])
    assert arrived(server, trial.id, 3).exit_code is None
    first.close()
    assert server.runs[trial.id].exit_code is None
    assert track(tmp_path, [trial], "online").problem is None
    run = server.runs[trial.id]
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5]
    assert run.exit_code == 0


def arrived(server: WandbServer, trial: str, rows: int) -> Any:
    """The run once so many rows of it are there; the client sends them every few seconds."""
    wait_until(lambda: trial in server.runs and len(server.runs[trial].rows) >= rows)
    return server.runs[trial]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "requests", "more"), [("error", 5, 0), ("hang", 1, 3)])
def test_an_outage_costs_nothing(
    server: WandbServer, tmp_path: Path, fault: str, requests: int, more: float
) -> None:
    tracker = Tracker(tmp_path, "sweep", "online", None, None, GROUPS)
    results = some(6)
    for entry in results[:2]:
        tracker.log(entry)
    for entry in results[:2]:
        arrived(server, entry.id, 2)
    server.fault = fault
    for entry in results[2:]:
        tracker.log(entry)
    threading.Thread(target=server.mend_after, args=(requests, more)).start()
    tracker.close()
    assert tracker.problem is None
    assert complete(server, results)


@pytest.mark.slow
def test_a_server_out_of_order_is_told_in_one_sentence_and_no_traceback(
    server: WandbServer, tmp_path: Path
) -> None:
    server.fault = "error"
    problem = problem_of_child(tmp_path, some(1), "online", 5, **server.environment())
    assert problem
    assert problem.startswith("W&B runs are missing")
    server.fault = None
    assert track(tmp_path, some(1), "online").problem is None
    assert complete(server, some(1))


@pytest.mark.slow
def test_a_driver_killed_while_sending_leaves_each_trial_once(
    server: WandbServer, tmp_path: Path
) -> None:
    results = some(40)
    kill_while_it_logs(tmp_path, results, (1, 17), "online", **server.environment())
    assert track(tmp_path, results, "online").problem is None
    assert complete(server, results)


def test_finals_carry_what_they_learned(server: WandbServer, tmp_path: Path) -> None:
    final = result(kind="final", seed=2, test_accuracy=60.0)
    (tmp_path / "adapters").mkdir()
    path = tmp_path / "adapters" / f"{final.id}.safetensors"
    content = adapter_bytes({"head.weight": torch.zeros(2, 3)}, asdict(final.study))
    path.write_bytes(content[:-1])
    problem = track(tmp_path, [final], "online").problem
    assert problem
    assert f"{path} is damaged" in problem
    assert not server.artifacts
    path.write_bytes(content)
    assert track(tmp_path, [final], "online").problem is None
    (artifact,) = server.artifacts.values()
    assert (artifact["type"], artifact["name"]) == ("adapter", "arc_pico-arc-vtab-cifar100")
    assert artifact["metadata"]["rank"] == 50
    assert "seed2" in artifact["aliases"]
    assert "adapter.safetensors" in artifact["files"]
    assert artifact["committed"]
    assert server.runs[final.id].exit_code == 0


@pytest.mark.slow
def test_a_finished_sweep_can_be_sent_later_with_its_leaderboard(
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SPEC)
    assert main(["run", "s.yaml"]) == 0
    assert server.runs == {}
    monkeypatch.setenv("WANDB_MODE", "online")
    for _ in range(2):
        assert main(["leaderboard", "results/small", "--wandb"]) == 0
    assert capsys.readouterr().err == ""
    jobs = sorted(str(run.job_type) for run in server.runs.values())
    assert jobs == ["final", "leaderboard", "search", "search"]
    assert all(run.exit_code == 0 for run in server.runs.values())
    (board,) = (run for run in server.runs.values() if run.job_type == "leaderboard")
    assert board.starts == 2, "the client starts a run with two requests"
    (row,) = board.history
    assert {"leaderboard", "studies"} <= row.keys()
    assert row["studies"]["nrows"] == 1
    assert {artifact["type"] for artifact in server.artifacts.values()} == {"adapter", "run_table"}
    for _ in range(2):
        assert main(["dashboard", "results/small"]) == 0
    saved = capsys.readouterr().out
    assert f"{server.url}/somebody/small" in saved
    assert len(server.runs) == 4
    workspace, report, workspace_again, report_again = server.views
    assert workspace_again["id"] == "view1"
    assert report_again["id"] == "view2"
    for view in (workspace, report):
        assert "test_accuracy" in view["spec"]
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main(["leaderboard", "results/small", "--wandb"]) == 2
    assert "wandb login" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_killed_while_its_curves_are_live_has_each_run_once_and_whole(
    server: WandbServer, tmp_path: Path, gate: Gate
) -> None:
    spec = SPEC.replace("epochs: 1", "epochs: 3").replace("[linear]", "[linear, bias]")
    (tmp_path / "s.yaml").write_text(spec)
    command = [
        sys.executable,
        "-c",
        "from orchestrator.cli import main; exit(main(['run', 's.yaml']))",
    ]
    environ = {**environment(), **server.environment(), **gate.environment()}

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    driver = begin()
    wait_until(lambda: any(run.rows for run in list(server.runs.values())), driver)
    assert all(run.exit_code is None for run in server.runs.values()), "all trials are live"
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    gate.open()
    again = begin()
    out, _ = again.communicate()
    assert again.returncode == 0, out
    found = [json.loads(path.read_text()) for path in (tmp_path / "results/small/trials").iterdir()]
    assert len(found) == 2 * 3
    assert {run.job_type for run in server.runs.values()} == {"search", "final", "leaderboard"}
    assert len(server.runs) == len(found) + 1
    for entry in found:
        run = server.runs[entry["id"]]
        assert [row["epoch"] for row in run.history] == [1, 2, 3]
        assert [row["train_loss"] for row in run.history] == [row[1] for row in entry["curve"]]
        assert (run.exit_code, run.summary["status"]) == (0, "done")


SPEC = """
name: small
tasks: [demo/digits]
methods: [linear]
backbones: [arc_pico]
search: {trials: 2, halving: null, algorithm: random}
training: {epochs: 1, warmup_epochs: 0}
finals: {seeds: [0]}
resources: {cpu: 1.5}  # of two: one worker
"""

"""W&B runs, read back from the files that the real client wrote: each trial exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.folder import Result
from orchestrator.tracking import Tracker, resolve_mode
from tests.wandb_files import Run, runs

SUMMARY = {
    "status": "done",
    "epochs_run": 2,
    "val_accuracy": 61.5,
    "val_loss": 1.25,
    "trainable_params": 4321,
    "adapter_params": 1234,
    "seconds": 3.5,
}


def result(trial: str = "00000000000000aa", **changes: Any) -> Result:
    return {
        "id": trial,
        "kind": "search",
        "backbone": "arc_pico",
        "method": "arc",
        "task": "vtab/cifar100",
        "config": {"dropout": 0.1, "lr": 0.003, "rank": 50, "weight_decay": 0},
        "seed": 0,
        "note": None,
        "test_accuracy": None,
        "curve": [[1, 2.5, None, None], [2, 2.0, 1.25, 61.5]],
        "data": {"variant": "vtab-1k folder", "fingerprint": "beef"},
        "code": {"version": "0.1.0", "git": None},
        "packages": {"torch": "2"},
        "device": "cpu",
        **SUMMARY,
        **changes,
    }


def track(folder: Path, results: list[Result], mode: str = "offline") -> Tracker:
    tracker = Tracker(folder, "sweep", mode, None, None)
    for entry in results:
        tracker.log(entry)
    tracker.close(timeout=120)
    return tracker


def logged(folder: Path) -> dict[str, Run]:
    found = runs(folder / "wandb")
    assert all(count == 1 for count in Counter(run.id for run in found).values())
    return {run.id: run for run in found}


def test_a_run_says_what_the_result_says(tmp_path: Path) -> None:
    final = result(
        "00000000000000bb",
        kind="final",
        seed=3,
        val_accuracy=None,
        val_loss=None,
        test_accuracy=58.0,
        curve=[[1, 2.5, None, None]],
    )
    assert track(tmp_path, [result(), final]).problem is None
    search, tested = logged(tmp_path).values()
    assert search.name == "arc · cifar100 · r50 lr0.003 drop0.1 wd0"
    assert tested.name == "arc · cifar100 · r50 lr0.003 drop0.1 wd0 seed3"
    assert (search.project, search.group) == ("sweep", "arc_pico/arc/vtab/cifar100")
    assert (search.job_type, tested.job_type) == ("search", "final")
    assert sorted(search.tags) == ["arc", "arc_pico", "natural"]
    assert search.history == [
        {"epoch": 1, "train_loss": 2.5},
        {"epoch": 2, "train_loss": 2.0, "val_loss": 1.25, "val_accuracy": 61.5},
    ]
    assert {key: search.summary[key] for key in SUMMARY} == SUMMARY
    assert tested.summary["test_accuracy"] == 58.0
    assert search.metrics["*"] == "epoch"
    expected = {"rank": 50, "lr": 0.003, "method": "arc", "task": "vtab/cifar100", "seed": 0}
    expected |= {"data_fingerprint": "beef", "task_group": "natural", "sweep": "sweep"}
    assert {key: search.config[key] for key in expected} == expected
    assert not any(isinstance(value, dict) for value in search.config.values())
    assert search.exit_code == 0


@pytest.mark.parametrize(("status", "code"), [("stopped", 0), ("diverged", 0), ("failed", 1)])
def test_only_failed_trials_end_as_failed_runs(tmp_path: Path, status: str, code: int) -> None:
    track(tmp_path, [result(status=status, curve=[], val_accuracy=None, val_loss=None)])
    (run,) = logged(tmp_path).values()
    assert (run.exit_code, run.summary["status"], run.history) == (code, status, [])


def test_what_is_logged_stays_logged_once(tmp_path: Path) -> None:
    results = [result(f"{i:016x}") for i in range(4)]
    track(tmp_path, results[:3] + results[:2])
    folders = {run.folder for run in logged(tmp_path).values()}
    track(tmp_path, results)
    again = logged(tmp_path)
    assert set(again) == {entry["id"] for entry in results}
    assert folders < {run.folder for run in again.values()}


def test_a_repaired_trial_replaces_its_failed_run(tmp_path: Path) -> None:
    track(tmp_path, [result(status="failed", curve=[])])
    track(tmp_path, [result()])
    (run,) = logged(tmp_path).values()
    assert (run.summary["status"], run.exit_code) == ("done", 0)


def test_a_torn_line_in_the_ledger_costs_nothing(tmp_path: Path) -> None:
    results = [result(f"{i:016x}") for i in range(3)]
    track(tmp_path, results[:2])
    ledger = tmp_path / "wandb" / "logged.jsonl"
    ledger.write_text(ledger.read_text().rstrip()[:-9])
    track(tmp_path, results)
    assert len(logged(tmp_path)) == 3
    track(tmp_path, results)
    assert len(logged(tmp_path)) == 3


CHILD = """
import json, sys, threading
from pathlib import Path
from orchestrator.tracking import Tracker
tracker = Tracker(Path(sys.argv[1]), "sweep", "offline", None, None)
for line in sys.stdin:
    tracker.log(json.loads(line))
tracker.close(None)
"""


def test_a_driver_killed_while_writing_leaves_each_trial_once(tmp_path: Path) -> None:
    results = [result(f"{i:016x}") for i in range(60)]
    ledger = tmp_path / "wandb" / "logged.jsonl"
    killed = 0
    for target in (1, 13, 31):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, text=True
        )
        assert child.stdin
        child.stdin.write("\n".join(map(json.dumps, results)) + "\n")
        child.stdin.flush()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if ledger.exists() and len(ledger.read_text().split("\n")) > target:
                break
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        killed += child.returncode == -signal.SIGKILL
    assert killed == 3
    assert len(ledger.read_text().splitlines()) < len(results), "it must be cut in the middle"
    assert track(tmp_path, results).problem is None
    found = logged(tmp_path)
    assert set(found) == {entry["id"] for entry in results}
    assert all(len(run.history) == 2 and run.exit_code == 0 for run in found.values())


def test_disabled_writes_and_imports_nothing(tmp_path: Path) -> None:
    track(tmp_path, [result()], mode="disabled")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "wandb").write_text("in the way")
    tracker = track(tmp_path, [result()])
    assert tracker.problem
    assert "can't write" in tracker.problem


def test_auto_is_online_only_with_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    assert resolve_mode("auto") == "offline"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert resolve_mode("auto") == "offline"
    netrc.write_text("machine nonsense\nrubbish")
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    assert resolve_mode("offline") == "offline"

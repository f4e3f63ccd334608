"""W&B runs, read back from the files that the real client wrote: each trial exactly once."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from arc_train.errors import InputError
from orchestrator.leaderboard import leaderboard
from orchestrator.leaderboard.board import Protocol
from orchestrator.store.result import DataInfo, Result, Status, result_text
from orchestrator.tracking.journal import wait_for_end
from orchestrator.tracking.settings import project_name, resolve_mode
from orchestrator.tracking.tracker import Tracker
from tests import results
from tests.gate import wait_until
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


GROUPS = {"vtab/cifar100": "natural"}


def result(trial: str = "00000000000000aa", **changes: Any) -> Result:
    about = {
        "backbone": "arc_pico",
        "config": {"dropout": 0.1, "lr": 0.003, "rank": 50, "weight_decay": 0},
        "curve": [[1, 2.5, None, None], [2, 2.0, 1.25, 61.5]],
        "data": DataInfo(variant="vtab-1k folder", fingerprint="beef"),
    }
    return results.result(trial, **{**about, **SUMMARY, **changes})


def track(folder: Path, results: list[Result], mode: str = "offline") -> Tracker:
    tracker = Tracker(folder, "sweep", mode, None, None, GROUPS)
    for entry in results:
        tracker.log(entry)
    tracker.close()
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
def test_only_failed_trials_end_as_failed_runs(tmp_path: Path, status: Status, code: int) -> None:
    track(tmp_path, [result(status=status, curve=[], val_accuracy=None, val_loss=None)])
    (run,) = logged(tmp_path).values()
    assert (run.exit_code, run.summary["status"], run.history) == (code, status, [])


def test_a_diverged_trial_has_no_accuracy_to_be_ranked_by(tmp_path: Path) -> None:
    track(tmp_path, [result(status="diverged", val_accuracy=None, val_loss=None)])
    (run,) = logged(tmp_path).values()
    assert run.history[-1]["val_accuracy"] == 61.5
    assert not {"val_accuracy", "val_loss", "test_accuracy"} & set(run.summary)


def test_the_end_is_told_once_for_each_state_of_the_leaderboard_where_asked(tmp_path: Path) -> None:
    entry = result()
    board = leaderboard(
        "sweep", Protocol("train+val", False, (0,)), [entry], [entry.study], GROUPS, {}
    )
    for alert in ("The run has ended: trials 1 done.", "once more"):
        tracker = Tracker(tmp_path, "sweep", "offline", None, None, GROUPS)
        tracker.board(board, alert)
        tracker.close()
        assert tracker.problem is None
    (run,) = logged(tmp_path).values()
    assert run.alerts == ["The run has ended: trials 1 done."]
    (tmp_path / "quiet").mkdir()
    quiet = Tracker(tmp_path / "quiet", "sweep", "offline", None, None, GROUPS)
    quiet.board(board)
    quiet.close()
    (run,) = logged(tmp_path / "quiet").values()
    assert run.alerts == []


def test_what_is_logged_stays_logged_once(tmp_path: Path) -> None:
    results = [result(f"{i:016x}") for i in range(4)]
    track(tmp_path, results[:3] + results[:2])
    folders = {run.folder for run in logged(tmp_path).values()}
    track(tmp_path, results)
    again = logged(tmp_path)
    assert set(again) == {entry.id for entry in results}
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


def test_a_file_has_its_end_only_when_it_is_written_whole(tmp_path: Path) -> None:
    track(tmp_path, [result()])
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = path.read_bytes()
    wait_for_end(path.parent, 0)
    ends = next(n for n in range(7, len(content) + 1) if _ends(path, content[:n]))
    assert ends > len(content) / 2
    for cut in (7, 8, ends // 2, ends - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(OSError, match="has no end"):
            wait_for_end(path.parent, 0)


def _ends(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    return runs(path.parents[1])[0].exit_code is not None


def test_a_service_that_dies_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    track(tmp_path, [result(f"{0:016x}")])
    of_us = " ".join(p.read_text() for p in Path("/proc/self/task").glob("*/children")).split()
    services = [p for p in of_us if "wandb-core" in Path(f"/proc/{p}/cmdline").read_text()]
    assert services
    for service in services:
        os.kill(int(service), signal.SIGKILL)
    results = [result(f"{i:016x}") for i in range(3)]
    assert track(tmp_path, results).problem is None
    assert set(logged(tmp_path)) == {entry.id for entry in results}


@pytest.mark.parametrize("line", ["[]", "{}", "7", '"id"', '{"id": 3, "status": []}', "\x00{"])
def test_a_damaged_line_in_the_ledger_costs_nothing(tmp_path: Path, line: str) -> None:
    results = [result(f"{i:016x}") for i in range(2)]
    track(tmp_path, results[:1])
    ledger = tmp_path / "wandb" / "logged.jsonl"
    ledger.write_text(f"{ledger.read_text()}{line}")  # torn, too: no line ends here
    assert track(tmp_path, results).problem is None
    assert len(logged(tmp_path)) == 2
    folders = {run.folder for run in logged(tmp_path).values()}
    assert track(tmp_path, results).problem is None
    assert {run.folder for run in logged(tmp_path).values()} == folders


STUCK = """
import sys
from pathlib import Path
from orchestrator.store.result import read_result
from orchestrator.tracking import tracker
tracker.PATIENCE, tracker.LONGEST = 1, 1
stuck = tracker.Tracker(Path(sys.argv[1]), "sweep", "offline", None, None, {})
stuck.log(read_result(Path(sys.argv[2])))
stuck.close()
print(stuck.problem)
"""


def test_a_client_that_never_answers_keeps_nothing_from_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(result_text(result()))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = {"WANDB_SERVICE": f"3-{os.getpid()}-tcp-localhost-{silent.getsockname()[1]}"}
        done = subprocess.run(
            [sys.executable, "-c", STUCK, str(tmp_path), str(path)],
            env=environment() | service,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    assert "W&B runs are missing: W&B's client doesn't answer" in done.stdout
    assert track(tmp_path, [result()]).problem is None
    assert len(logged(tmp_path)) == 1


CHILD = """
import json, sys
from pathlib import Path
from orchestrator.store.result import read_result
from orchestrator.tracking.tracker import Tracker
folder, mode, timeout = sys.argv[1:]
tracker = Tracker(Path(folder), "sweep", mode, None, None, {})
for line in sys.stdin:
    tracker.log(read_result(Path(line.strip())))
tracker.close(float(timeout))
print(json.dumps(tracker.problem))
"""


def environment() -> dict[str, str]:
    """Without what W&B sets in this process: a child would share its service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def files(folder: Path, results: list[Result]) -> str:
    """Result files for a child to read: a path in each line."""
    paths = []
    for entry in results:
        paths.append(folder / f"{entry.id}.json")
        paths[-1].write_text(result_text(entry))
    return "".join(f"{path}\n" for path in paths)


def problem_of_child(
    folder: Path, results: list[Result], mode: str, timeout: float, **env: str
) -> str | None:
    """The problem that a process has which tracks these results; it must say nothing else."""
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), mode, str(timeout)],
        input=files(folder, results),
        env={**environment(), **env},
        capture_output=True,
        text=True,
        check=True,  # and it ends, though W&B's threads may wait for a server
    )
    assert ended.stderr == ""
    problem: str | None = json.loads(ended.stdout)
    return problem


@pytest.mark.slow
def test_a_server_that_never_answers_holds_neither_the_sweep_nor_the_process(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        problem = problem_of_child(
            tmp_path,
            [result()],
            "online",
            5,
            WANDB_BASE_URL=f"http://127.0.0.1:{server.getsockname()[1]}",
            WANDB_API_KEY="x" * 40,
            WANDB_ERROR_REPORTING="false",
        )
    assert problem
    assert "W&B runs are missing" in problem
    assert track(tmp_path, [result()]).problem is None
    assert set(logged(tmp_path)) == {result().id}


def test_nothing_but_files_comes_from_it(tmp_path: Path) -> None:
    assert problem_of_child(tmp_path, [result()], "offline", 600) is None
    assert set(logged(tmp_path)) == {result().id}


def kill_while_it_logs(
    folder: Path, results: list[Result], targets: Sequence[int], mode: str, **env: str
) -> None:
    """Kill a process for each target, as soon as its ledger has so many lines.

    It is given a few results more than that, which may be under way, and no end.
    """
    ledger = folder / "wandb" / "logged.jsonl"
    for target in targets:
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), mode, "600"],
            stdin=subprocess.PIPE,
            env={**environment(), **env},
            text=True,
        ) as child:
            assert child.stdin
            child.stdin.write(files(folder, results[: target + 8]))
            child.stdin.flush()
            wait_until(lambda target=target: _lines(ledger) >= target, child)
            child.kill()
        assert child.returncode == -signal.SIGKILL
    assert _lines(ledger) < len(results), "it must be cut in the middle"


def _lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


@pytest.mark.slow
def test_a_driver_killed_while_writing_leaves_each_trial_once(tmp_path: Path) -> None:
    results = [result(f"{i:016x}") for i in range(60)]
    kill_while_it_logs(tmp_path, results, (1, 13, 31), "offline")
    assert track(tmp_path, results).problem is None
    found = logged(tmp_path)
    assert set(found) == {entry.id for entry in results}
    assert all(len(run.history) == 2 and run.exit_code == 0 for run in found.values())


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    assert track(tmp_path, [result()], mode="disabled").problem is None
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
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
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


@pytest.mark.parametrize("mode", ["auto", "online"])
@pytest.mark.parametrize(
    ("asked", "comes_to"),
    [
        ("dryrun", "offline"),
        ("offline", "offline"),
        ("OFFLINE", "offline"),
        ("no", "offline"),
        ("disabled", "disabled"),
        ("run", "online"),
        ("online", "online"),
    ],
)
def test_who_says_no_to_wandb_is_never_sent_online(
    mode: str, asked: str, comes_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", asked)
    assert resolve_mode(mode) == comes_to
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert resolve_mode(mode) == "disabled"


def test_the_project_is_the_files_the_environments_or_the_sweeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    assert project_name(None, "sweep") == "sweep"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert project_name(None, "sweep") == "mine"
    assert project_name("given", "sweep") == "given"
    with pytest.raises(InputError, match=r"^wandb\.project 'team/given' is no name"):
        project_name("team/given", "sweep")
    monkeypatch.setenv("WANDB_PROJECT", "x" * 129)
    with pytest.raises(InputError, match=r"^\$WANDB_PROJECT 'xxx"):
        project_name(None, "sweep")


def test_auto_knows_what_the_wandb_command_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine wandb.local:8080 login user password secret\n")
    assert resolve_mode("auto") == "offline"
    (tmp_path / "settings").write_text("[default]\nbase_url = http://wandb.local:8080\n")
    assert resolve_mode("auto") == "online"
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert resolve_mode("auto") == "offline"
    (tmp_path / "settings").write_text("not a settings file")
    assert resolve_mode("auto") == "offline"

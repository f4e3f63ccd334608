"""Sweeps that are disturbed: drivers and workers killed, interrupted, two in one folder.

Packs wait at a gate after their first epoch, so nothing is over before it is disturbed.
"""

import re
import signal
import subprocess
from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.plan import Identity
from orchestrator.progress import Progress
from orchestrator.spec import Spec
from orchestrator.sweep import prepare
from tests.gate import Gate, wait_until
from tests.sweeps import TRIALS, Sweep, outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_cluster")]


def until_written(sweep: Sweep, count: int, gate: Gate, process: subprocess.Popen[str]) -> None:
    """Let packs go on, one by one, until so many results lie there and one more pack waits."""
    wait_until(gate.held, process)
    while len(sweep.written()) < count:
        gate.release(gate.held()[0])
        wait_until(gate.held, process)


def test_a_driver_killed_at_any_time_loses_and_doubles_nothing(
    sweep: Sweep, gate: Gate, undisturbed: tuple[Sweep, tuple[int, str, str]]
) -> None:
    sweep.use_two_workers()
    for count in (1, 8):
        process = sweep.start(gate=gate)
        until_written(sweep, count, gate, process)
        process.kill()
        process.communicate()
        gate.forget()
    before = sweep.written()
    assert 8 <= len(before) < TRIALS
    code, _, _ = sweep.run()
    assert code == 0
    results = sweep.check_complete()
    assert {name: sweep.written()[name] for name in before} == before
    assert outcome(results) == outcome(undisturbed[0].results())


def test_a_search_that_learns_goes_on_from_its_results(sweep: Sweep, gate: Gate) -> None:
    """Rounds, revalidation and a killed driver: each study ends with all its stages, once."""
    sweep.write(
        {
            **sweep.spec,
            "search": {"trials": 6, "rounds": 3, "halving": None},
            "selection": {"revalidate": 2, "seeds": 1},
            "training": {"epochs": 2, "warmup_epochs": 0},
            "finals": {"seeds": [0]},
        }
    )
    process = sweep.start(gate=gate)
    until_written(sweep, 5, gate, process)
    process.kill()
    process.communicate()
    before = sweep.written()
    code, out, err = sweep.run()
    assert (code, err) == (0, "")
    assert {name: sweep.written()[name] for name in before} == before
    results = sweep.results().values()
    kinds = Counter((result["kind"], result["seed"]) for result in results)
    assert kinds == {("search", 0): 24, ("search", 1): 8, ("final", 0): 4}
    sweep.check_runs()
    first = {"lr": 0.01, "weight_decay": 0.0001}
    assert first in [r["config"] for r in results if r["method"] == "linear"]
    code, out, _ = sweep.run()
    assert (code, "0 trials trained now" in out) == (0, True)


def test_ctrl_c_leaves_a_resumable_folder(
    sweep: Sweep, gate: Gate, undisturbed: tuple[Sweep, tuple[int, str, str]]
) -> None:
    process = sweep.start(gate=gate)
    until_written(sweep, 2, gate, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "the same command goes on" in err
    assert (sweep.folder / "leaderboard.json").exists()
    assert 2 <= len(sweep.written()) < TRIALS
    assert sweep.run()[0] == 0
    assert outcome(sweep.check_complete()) == outcome(undisturbed[0].results())


@pytest.mark.parametrize("at", ["first epoch", "start"])
def test_a_killed_worker_is_replaced_and_goes_on(
    sweep: Sweep, gate: Gate, undisturbed: tuple[Sweep, tuple[int, str, str]], at: str
) -> None:
    """A worker is killed in training, from its checkpoint on, or between two packs."""
    process = sweep.start(gate=gate, at=at)
    wait_until(gate.held, process)
    (first, *_) = gate.held()
    if at == "start":  # a new worker: it is killed when it has ended that pack, before its next
        gate.release(first)
        wait_until(lambda: first.process in [held.process for held in gate.held()], process)
    else:
        assert (sweep.folder / f"packs/{first.pack}.ckpt").exists()
    first.kill()
    gate.open()
    process.communicate()
    assert process.returncode == 0
    assert outcome(sweep.check_complete()) == outcome(undisturbed[0].results())


def test_packs_that_can_not_run_fail_and_the_rest_of_the_sweep_goes_on(
    sweep: Sweep, gate: Gate
) -> None:
    process = sweep.start("--set", "resources.max_failures=0", gate=gate)
    wait_until(gate.held, process)
    gate.held()[0].kill()
    gate.open()
    out, _ = process.communicate()
    assert process.returncode == 1
    notes = [r["note"] for r in sweep.results().values() if r["status"] == "failed"]
    assert notes
    assert all(re.match(r"WorkerDied: on [\d.]+: killed, by ", note) for note in notes), notes
    assert f"{len(notes)} failed" in out
    assert sweep.run()[0] == 0
    sweep.check_complete()


def test_a_pack_that_can_not_start_says_why_on_a_new_worker_and_on_a_used_one(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare_wrongly(spec: Spec, progress: Progress) -> Identity:
        identity = prepare(spec, progress)
        return replace(identity, tasks={**identity.tasks, "demo/count": "of other images"})

    monkeypatch.setattr("orchestrator.sweep.prepare", prepare_wrongly)
    sweep.write(
        {
            **sweep.spec,
            "methods": ["linear"],
            "search": {"trials": 2, "algorithm": "random", "halving": None},
            "resources": {**sweep.spec["resources"], "max_failures": 1},
        }
    )
    code, out, err = sweep.run()
    assert code == 1
    notes = {r["task"]: r["note"] for r in sweep.results().values() if r["status"] == "failed"}
    (note,) = notes.values()
    assert note.startswith("InputError: demo/count: this node's images differ from those of the dr")
    said = " ".join((out + err).split())
    assert "tried again (InputError: demo/count: this node's images differ" in said
    assert "died" not in said


def test_workers_killed_for_memory_are_dead_workers_like_any_other(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's monitor kills for real: less memory is allowed than is in use already."""
    sweep.write({**sweep.spec, "tasks": ["demo/digits"], "methods": ["linear"]})
    with monkeypatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.01")
        patch.setenv("RAY_memory_monitor_refresh_ms", "100")
        process = sweep.start("--set", "resources.max_failures=1")
        _, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err
    results = sweep.results().values()
    assert {result["status"] for result in results} == {"failed"}
    assert all("memory" in result["note"] for result in results)
    assert sweep.run()[0] == 0
    statuses = Counter(result["status"] for result in sweep.results().values())
    assert statuses["failed"] == 0
    assert sum(statuses.values()) == 3 + 2


def test_two_drivers_never_work_in_one_folder(sweep: Sweep, gate: Gate) -> None:
    process = sweep.start(gate=gate)
    until_written(sweep, 1, gate, process)
    code, _, err = sweep.run()
    assert code == 2
    assert "another arc-sweep run is working in" in err
    state = sweep.status()
    assert state["running"]
    assert sum(state["statuses"].values()) > 0
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    state = sweep.status()
    assert not state["running"]
    assert state["complete"] < 4
    assert sum(line["search"] for line in state["studies"]) <= 12

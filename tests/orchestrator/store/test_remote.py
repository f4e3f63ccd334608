"""Sweeps in object storage, against a real S3-compatible server (moto) on this machine."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arc_train.errors import InputError
from orchestrator.cli import main
from orchestrator.store import lease
from orchestrator.store.access import SplitAccess
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lock import is_locked, locked
from orchestrator.store.remote import Remote, below
from orchestrator.store.result import Result
from tests.finished import finished
from tests.gate import Gate, wait_until
from tests.results import final

BUCKET = "sweeps"
SPEC = """
name: small
tasks: [demo/digits]
methods: [linear, bias]
backbones:
  - {name: tiny, model: vit_tiny_patch16_224, weights: random,
     args: {img_size: 32, embed_dim: 48, depth: 2, num_heads: 2}}
search: {trials: 2, halving: null, algorithm: random}
training: {epochs: 3, warmup_epochs: 0}
finals: {seeds: [0]}
wandb: {mode: disabled}
resources: {cpu: 1.5}  # of two: one worker
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """A server's environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "NO_PROXY": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield environment
    server.stop()


@pytest.fixture
def storage(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A place of this test's own; this machine has no copy of anything."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ARC_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "RENEWED", 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SPEC)
    return f"s3://{BUCKET}/{tmp_path.name}"


def results(place: str) -> dict[str, Result]:
    """What determines a result, by trial."""
    found = SweepFolder(place).results()
    cost = {"seconds": 0.0, "images_per_second": None, "peak_memory": None}
    return {trial: replace(result, **cost) for trial, result in found.items()}


def test_what_one_machine_writes_another_reads(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SweepFolder(storage)
    here.create()
    failed = final(0, 50.0, status="failed", id="a" * 16)
    here.write_result(failed)
    here.save_checkpoint("p", b"state")
    opened = SplitAccess("2026-01-01T00:00:00Z", "final", "x", "b/m/x", "p", ("t",), 1)
    here.record_test_access(opened)
    here.write(here.adapters / "a.safetensors", b"weights")
    monkeypatch.setenv("ARC_SWEEP_CACHE", str(tmp_path / "other"))
    there = SweepFolder(storage)
    assert there.path != here.path
    assert there.results() == {"a" * 16: failed}
    assert there.load_checkpoint("p") == b"state"
    assert there.adapter("a").read_bytes() == b"weights"
    there.collect()
    (line,) = (there.path / "test_access.jsonl").read_text().splitlines()
    assert json.loads(line) == {**asdict(opened), "trials": ["t"]}
    there.write_result(replace(failed, status="done"))
    assert here.result("a" * 16) == replace(failed, status="done")
    assert here.results()["a" * 16].status == "done"
    there.drop_checkpoint("p")
    assert here.load_checkpoint("p") is None
    assert there.load_checkpoint("none") is None


def test_options_of_the_uri_stay_at_its_end() -> None:
    assert below("s3://b/x/", "name") == "s3://b/x/name"
    assert below("s3://b?region=r", "name") == "s3://b/name?region=r"


@pytest.mark.slow
def test_a_sweep_there_equals_one_in_a_folder(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert main(["run", "s.yaml"]) == 0
    assert main(["run", "s.yaml", "--set", f"storage={storage}"]) == 0
    place = f"{storage}/small"
    assert results(place) == results("results/small")
    monkeypatch.setenv("ARC_SWEEP_CACHE", str(tmp_path / "other machine"))
    capsys.readouterr()
    assert main(["status", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] == 2
    assert main(["leaderboard", place, "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert board["means"] == json.loads(Path("results/small/leaderboard.json").read_text())["means"]
    opened = SweepFolder(place).path / "test_access.jsonl"
    local = Path("results/small/test_access.jsonl")
    assert len(opened.read_text().splitlines()) == len(local.read_text().splitlines()) == 2
    assert main(["export", place, "tiny/bias/demo/digits", "-o", "out"]) == 0
    assert (tmp_path / "out" / "adapter.safetensors").stat().st_size > 100


@pytest.fixture
def machines(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SweepFolder, SweepFolder]:
    """One place, seen from two machines."""
    folders = []
    for name in ("here", "there"):
        monkeypatch.setenv("ARC_SWEEP_CACHE", str(tmp_path / name))
        folders.append(SweepFolder(storage))
        folders[-1].create()
    return folders[0], folders[1]


def test_two_drivers_at_one_address_are_kept_apart(
    machines: tuple[SweepFolder, SweepFolder],
) -> None:
    here, there = machines
    said: list[str] = []
    assert not is_locked(there)
    with locked(here, said.append):
        assert is_locked(there)
        with pytest.raises(InputError, match=r"another arc-sweep run is working in .*process \d+"):
            locked(there).__enter__()
    assert not is_locked(there)
    with locked(there, said.append):  # at once: it was given back
        assert is_locked(here)
    assert said == []


def test_the_lease_of_a_dead_driver_is_taken_over_and_it_learns_so_should_it_live(
    machines: tuple[SweepFolder, SweepFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines
    renew, taken = lease.Lease._renew, threading.Event()

    def renew_late(silent: lease.Lease) -> None:
        taken.wait(600)
        renew(silent)

    def work() -> None:
        taken.set()
        time.sleep(600)

    monkeypatch.setattr(lease, "STALE", 1.0)
    monkeypatch.setattr(lease, "RENEWED", 0.5)
    monkeypatch.setattr(lease.Lease, "_renew", renew_late)
    with pytest.raises(InputError, match="another arc-sweep run has taken over"), locked(here):  # noqa: PT012
        monkeypatch.setattr(lease.Lease, "_renew", renew)
        with locked(there), pytest.raises(KeyboardInterrupt):
            work()


def test_a_place_that_has_no_lease_says_so(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with locked(SweepFolder(tmp_path / "folder"), said.append):
        pass
    assert said == []
    monkeypatch.setitem(sys.modules, "boto3", None)
    with locked(SweepFolder(storage), said.append):
        pass
    assert said == [
        f"{storage}: nothing keeps a run on another machine out of it, since boto3 isn't "
        "installed: pip install 'arc-sweep[s3]'"
    ]


@pytest.mark.slow
def test_a_killed_driver_goes_on_from_a_machine_that_has_nothing(
    storage: str, gate: Gate, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{storage}/small"
    command = ["run", "s.yaml", "--set", f"storage={storage}"]
    driver = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from orchestrator.cli import main; main(sys.argv[1:])",
            *command,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | gate.environment(),
    )
    wait_until(gate.held, driver)
    gate.release(gate.held()[0])
    wait_until(lambda: Remote(place).list("trials") and gate.held(), driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = results(place)
    assert 0 < len(before) < 2 * (2 + 1)
    shutil.rmtree(SweepFolder(place).path)
    monkeypatch.setattr(lease, "STALE", 1.0)
    assert main(command) == 0
    after = results(place)
    assert len(after) == 2 * (2 + 1)
    assert before.items() <= after.items()
    assert f"{len(after) - len(before)} trials trained now" in capsys.readouterr().out


def test_what_can_not_be_used_is_told_before_any_training(
    storage: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert main(["run", "s.yaml", "--set", "storage=s3://no-such-bucket/x"]) == 2
    told = capsys.readouterr().err
    assert "storage s3://no-such-bucket/x/small: can't write there" in told
    assert "AWS_ACCESS_KEY_ID" in told
    assert "Traceback" not in told
    assert main(["status", f"{storage}/never"]) == 2
    assert f"{storage}/never is not a sweep folder" in capsys.readouterr().err
    for none in ("s3://", "s3:///x"):
        assert main(["status", none]) == 2
        assert f"storage {none} names no bucket" in capsys.readouterr().err
    assert main(["run", "s.yaml", "--set", "storage=ftp://host/x"]) == 2
    assert "s3:// or gs://" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_is_away_is_told_too(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("orchestrator.store.remote.ATTEMPTS", 1)
    with pytest.raises(InputError, match="can't write there"):
        SweepFolder(storage).create()


def test_a_table_joins_a_sweep_here_and_one_in_object_storage(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, right = [0, 1] * 20, np.tile([0, 1], (1, 20))
    finished(tmp_path / "here", labels, {"vtab/dtd": {"arc": right}})
    finished(f"{storage}/there", labels, {"vtab/dtd": {"lora": right}}, scratch=tmp_path / "there")
    places = [str(tmp_path / "here"), f"{storage}/there"]
    assert main(["leaderboard", *places, "--to", f"{storage}/both", "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in board["rows"]] == ["arc (here)", "lora (there)"]
    assert board["pairs"][0]["difference"] == 0
    kept = Remote(f"{storage}/both").get("leaderboard.json")
    assert kept
    assert json.loads(kept) == board

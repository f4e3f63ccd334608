"""Which cluster a run joins, and what it leaves on a machine: no Ray is started."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from arc_train.errors import InputError
from orchestrator.cluster.address import running_cluster
from orchestrator.cluster.scratch import LONGEST, scratch


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster of this machine plays a part."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:{closed}", "no Ray cluster answers at RAY_ADDRESS 127.0.0.1:"),
        ("no.such.host.invalid:6379", "no Ray cluster answers at"),
        ("127.0.0.1:99999", "no Ray cluster answers at"),
        ("http://127.0.0.1:8265", "`arc-sweep run --submit`"),
        ("ray://127.0.0.1:10001", "is no address of a Ray cluster's head"),
        ("garbage", "is no address"),
        (":6379", "is no address"),
        ("auto", "no Ray cluster runs here"),
    ],
)
def test_an_address_without_a_cluster_is_said_in_one_line(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address.replace("{closed}", str(closed_port())))
    with pytest.raises(InputError) as error:
        running_cluster()
    assert says in str(error.value)
    assert "RAY_ADDRESS=local" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_noted_cluster_is_joined_only_while_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running_cluster() is None
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert running_cluster() == address
        monkeypatch.setenv("RAY_ADDRESS", "local")
        assert running_cluster() is None
        monkeypatch.delenv("RAY_ADDRESS")
    assert running_cluster() is None


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.delenv("TMPDIR", raising=False)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("base", ["/nowhere", "/tmp/" + LONGEST * "x"])
def test_a_temporary_folder_that_sockets_cannot_use_is_passed_over(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", base)
    with scratch() as place:
        assert place.is_dir()
        assert len(str(place.parent)) <= LONGEST
    assert not place.exists()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("titled", [False, True], ids=["by its arguments", "by its environment"])
def test_what_a_killed_run_left_is_cleared_away_and_a_living_one_is_not(titled: bool) -> None:
    with scratch() as living:
        dead = living.with_name("arc-sweep-left")
        dead.mkdir(exist_ok=True)
        (dead / "lock").touch()
        sleep = ["-c", "import time; print(flush=True); time.sleep(600)"]
        # Ray's agents give themselves titles, which stand in the place of their arguments.
        sleep = ["ray::Agent", *sleep] if titled else [sys.executable, *sleep, f"{dead}/ray"]
        environment = os.environ | ({"ARC_SWEEP_SCRATCH": str(dead)} if titled else {})
        left = subprocess.Popen(
            sleep, executable=sys.executable, env=environment, stdout=subprocess.PIPE
        )
        assert left.stdout is not None
        left.stdout.readline()
        with scratch():
            assert left.wait() == -9
            assert not dead.exists()
            assert living.is_dir()
        with (living / "lock").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left.stdout.close()


@pytest.mark.usefixtures("short")
def test_a_folder_that_is_written_into_as_it_goes_is_cleared_away_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray's processes end a moment after their driver."""
    remove = shutil.rmtree

    def rewritten(path: Path, ignore_errors: bool) -> None:
        remove(path, ignore_errors=ignore_errors)
        if path.name == "ray":
            (path / "session").mkdir(parents=True)

    with monkeypatch.context() as patch, scratch() as place:
        (place / "ray").mkdir()
        patch.setattr("shutil.rmtree", rewritten)
        written_into = place
    assert written_into.exists()
    with scratch():
        assert not written_into.exists()

"""Sweeps for the tests that run whole ones, and the cluster on which most of them run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gate import Gate
from tests.sweeps import Sweep


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep starts a cluster of its own: it doesn't join one that happens to run here."""
    monkeypatch.setenv("RAY_ADDRESS", "local")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """That of a cluster which ends with this process."""
    from tests.small_cluster import small_cluster  # Ray is slow to import

    with small_cluster(2) as cluster:
        yield cluster.address


@pytest.fixture
def on_cluster(alone: None, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process runs goes to the cluster that tests share."""
    monkeypatch.setenv("RAY_ADDRESS", address)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def sweep(tmp_path: Path, cache: Path) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path, cache)
    yield sweep
    sweep.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "held")


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> tuple[Sweep, tuple[int, str, str]]:
    """A sweep run to its end once, as a process of its own, and what the command said."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), cache)
    sweep.use_two_workers()
    process = sweep.start()
    out, err = process.communicate()
    return sweep, (process.returncode, out, err)

"""Sweeps for the tests that run whole ones, and the cluster on which most of them run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gate import Gate
from tests.sweeps import Sweep


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
    process = sweep.start()
    out, err = process.communicate()
    return sweep, (process.returncode, out, err)

"""Sweeps for the tests that run whole ones."""

from pathlib import Path

import pytest

from tests.sweeps import Sweep


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def sweep(tmp_path: Path, cache: Path) -> Sweep:
    return Sweep(tmp_path, cache)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> tuple[Sweep, tuple[int, str, str]]:
    """A sweep run to its end once, and what the command said."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), cache)
    return sweep, sweep.run()

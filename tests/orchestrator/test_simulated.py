"""Simulated sweeps: whatever dies or is damaged, the same command ends as if nothing had been.

`make simulate` runs ten thousand, and so does `make test`. A seed that ever failed stays in FAILED.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import simulate

SWEEPS = int(os.environ.get("SIMULATED_SWEEPS", "200"))
PARTS = 10  # so that some are left for whoever is done, where tests run side by side
FAILED = (
    *(37, 45, 50),  # spec.yaml with another file's content was read as another sweep's
    *(2939, 7970),  # faults of the simulator's own: a stale failure was a result to it, say
)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is one: no disk has a part in this."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path)
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_any_schedule_of_faults_ends_as_undisturbed(part: int, scratch: Path) -> None:
    for seed in range(part, SWEEPS, PARTS):
        simulate(seed, scratch, thorough=seed % 8 < 2)


@pytest.mark.parametrize("seed", FAILED)
def test_a_seed_that_failed_once(seed: int, scratch: Path) -> None:
    simulate(seed, scratch, thorough=True)

"""Twenty faults on one sweep, in three runs and one in peace: a short form of `make chaos`."""

from pathlib import Path

import pytest

from benchmarks.chaos.arc_sweep import ArcSweep
from benchmarks.chaos.campaign import in_peace, run
from benchmarks.chaos.faults import AT_ONCE, BETWEEN
from benchmarks.chaos.tally import COUNTS, Tally
from tests.sweeps import Sweep

RUNS = (
    ("worker", "W&B", "worker", "worker", "driver SIGTERM", BETWEEN),
    ("worker", "W&B", "worker", "driver SIGKILL", BETWEEN),
    ("worker", "worker", "W&B"),
)


@pytest.mark.slow
def test_twenty_faults_lose_double_and_change_nothing(
    tmp_path: Path, cache: Path, undisturbed: tuple[Sweep, tuple[int, str, str]]
) -> None:
    victim, tally = ArcSweep(tmp_path, cache, "twenty", undisturbed[0]), Tally(0, "drawn")
    try:
        for kinds in RUNS:
            run(victim, tally, kinds)
        in_peace(victim, tally)
        victim.judge(tally)
    finally:
        victim.stop()
    counts = {name: getattr(tally, name) for name in COUNTS}
    assert counts.pop("injected") >= 2 * AT_ONCE + 2
    del counts["redone"]
    assert counts == dict.fromkeys(counts, 0)

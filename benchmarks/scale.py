"""What the driver does once for all trials, at many of them: reading, bookkeeping, leaderboard.

    python benchmarks/scale.py FOLDER [--times 1 4 16]

FOLDER is a finished sweep's (sweeps/rehearsal.yaml, say). Its result files are copied under new ids
so many times; each step is timed on all of them, in a process of its own, beside a plain read of
the same files, which is the limit.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import contents
from orchestrator.leaderboard import board_of, source, write
from orchestrator.plan import Identity
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import load
from orchestrator.store.folder import SweepFolder


def main() -> None:
    """Print seconds and memory by number of trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    print(f"{'trials':>9} {'step':14} {'seconds':>8} {'us a trial':>11} {'MB more':>8}")
    for times in options.times:
        with tempfile.TemporaryDirectory() as scratch:
            copy = multiply(options.folder, Path(scratch) / "sweep", times)
            trials = sum(1 for _ in (copy / "trials").iterdir())
            for step in (plain, results, bookkeeping, leaderboard):
                seconds, memory = alone(step, copy)
                each = 1e6 * seconds / trials
                name = step.__name__
                print(f"{trials:9,} {name:14} {seconds:8.1f} {each:11.0f} {memory / 1e6:8.0f}")


def multiply(folder: Path, copy: Path, times: int) -> Path:
    """The sweep with each of its trials so many times, under ids of their own."""
    (copy / "trials").mkdir(parents=True)
    (copy / "packs").mkdir()
    (copy / "spec.yaml").write_text((folder / "spec.yaml").read_text())
    for path in (folder / "trials").glob("*.json"):
        result = json.loads(path.read_text())
        for i in range(times):
            result["id"] = f"{i:04x}{path.stem[4:]}"
            (copy / "trials" / f"{result['id']}.json").write_text(json.dumps(result, indent=1))
    return copy


def alone(step: Callable[[Path], Any], folder: Path) -> tuple[float, int]:
    """Seconds and additional bytes of memory of a step, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (step, folder))


def _measured(step: Callable[[Path], Any], folder: Path) -> tuple[float, int]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    kept = step(folder)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del kept
    return seconds, 1024 * (after - before)


def plain(folder: Path) -> int:
    """Every byte of every file, and nothing else."""
    return sum(len(path.read_bytes()) for path in (folder / "trials").iterdir())


def results(folder: Path) -> Any:
    """Every result, parsed."""
    return SweepFolder(folder).results()


def bookkeeping(folder: Path) -> Any:
    """What a resumed sweep holds in memory of its trials."""
    spec = load(folder / "spec.yaml")
    identity = Identity(
        {entry.name: "x" for entry in spec.backbones}, dict.fromkeys(spec.tasks, "x")
    )
    return SweepSearch(spec, identity, SweepFolder(folder))


def leaderboard(folder: Path) -> Any:
    """leaderboard.json, .csv and .html."""
    place = SweepFolder(folder)
    found = source(place, contents.read(place))
    write(place, found, board_of(found))


if __name__ == "__main__":
    main()

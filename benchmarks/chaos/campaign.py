"""A victim under faults, to its end."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.chaos.faults import BETWEEN, KINDS
from benchmarks.chaos.tally import Tally
from benchmarks.chaos.victim import HANGS, Process, Victim, until

LATEST = 6  # epochs of all trainings after the last fault
STARVED, NO_START = "gave no sign in", 2  # what is said of a machine too busy, and its exit code
IMPORTING = 6.0  # seconds in which a driver starts
RUNS = 3  # for each fault, at most: some end before they are hit
ENDS = {  # exit codes that a run may have which was hit, beside that of a complete sweep
    "driver SIGKILL": {-9},
    "driver SIGTERM": {130},
    "driver SIGINT": {130},
    "worker": {1},  # a pack may be given up
    "raylet": {1, 2},
    "GCS": {1, 2},
    "W&B": set[int](),
    "disk full": {2},
    BETWEEN: {-9},
}


def disturb(victim: Victim, tally: Tally, faults: int) -> None:
    """Hit it so often at drawn moments, run it again after each end, and at last in peace."""
    with contextlib.ExitStack() as stack:
        if tally.kind == "disk full":
            tally.skipped = stack.enter_context(_small_disk(victim.folder))
        if tally.skipped:
            return
        stack.callback(victim.stop)
        for _ in range(RUNS * faults):
            if tally.injected >= faults or victim.complete():
                break
            run(victim, tally, [tally.kind] * (faults - tally.injected))
        in_peace(victim, tally)
        victim.judge(tally)


def in_peace(victim: Victim, tally: Tally) -> None:
    """The command once without a fault; again where the machine was too busy to start Ray."""
    run(victim, tally, [])
    while victim.said_last(STARVED):
        run(victim, tally, [])


def clear(place: Path) -> None:
    """Remove what a campaign that was stopped left of a victim."""
    for folder in place.glob("results/*"):
        if folder.is_mount():
            subprocess.run(["umount", str(folder)], check=False, capture_output=True)
    shutil.rmtree(place, ignore_errors=True)


def run(victim: Victim, tally: Tally, kinds: Sequence[str]) -> None:
    """The command once, under faults as long as it lives: under none, it must end complete."""
    began, hit, injected = time.time(), set[str](), 0
    earlier = {epoch.process for epoch in victim.epochs()}  # workers may outlive their driver
    process = victim.start()
    try:
        for kind in kinds:
            lives = _wait_for_the_moment(victim, kind, process)
            if not (lives or kind == BETWEEN):
                break
            count = KINDS[kind](victim, process)
            injected += count
            hit |= {kind} if count else set()
            if kind == BETWEEN:
                break
        process.wait(HANGS)
    except subprocess.TimeoutExpired:
        tally.hung += 1
        process.kill()
        process.wait()
    victim.note_results()
    trained = [epoch.time for epoch in victim.epochs() if epoch.process not in earlier]
    if tally.injected and trained:
        tally.starts.append(trained[0] - began)
    tally.injected += injected
    expected = {0} if victim.complete() else {NO_START} if victim.said_last(STARVED) else set[int]()
    tally.misreported += process.returncode not in expected.union(*(ENDS[kind] for kind in hit))


def _wait_for_the_moment(victim: Victim, kind: str, process: Process) -> bool:
    """Wait until some epochs on; drivers are hit while they start, too. False if it ends first."""
    if kind.startswith("driver") and victim.draws.random() < 0.25:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(victim.draws.uniform(0, IMPORTING))
        return process.poll() is None
    wanted = len(victim.epochs()) + victim.draws.randint(1, LATEST)
    until(lambda: len(victim.epochs()) >= wanted, process)
    return process.poll() is None


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[str | None]:
    """A file system of a few megabytes at a folder; tells why there can be none."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        yield mounted.stderr.strip() if mounted.returncode else None
    finally:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)

"""Sweeps whose processes are killed, whose disk is full, whose files are damaged: what is lost?

    PYTHONPATH=. python benchmarks/chaos.py FOLDER --faults 200 --seed 0

Every sweep is hit by several faults of one kind at drawn moments, is run again after each that
ended it, and once more in peace; then it must equal a sweep that nothing disturbed. FOLDER keeps a
line for each sweep, so the same command goes on after a campaign that was stopped itself.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.sweeps import TRIALS, Sweep, outcome, processes
from tests.wandb_files import runs

WATCHED = Path(__file__).parent / "watched"
FAULTS = 2  # for each sweep
LATEST = 6  # epochs of the whole sweep after the last fault
IMPORTING = 6.0  # seconds in which a driver starts
HANGS = 600.0  # seconds after which a run counts as hung
GONE = 10.0  # seconds that processes have to end after their sweep
DRIVER = {f"driver {name}": getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGINT")}
PROCESSES = {"raylet": "raylet", "GCS": "gcs_server", "W&B": "wandb-core"}
KINDS = (*DRIVER, "worker", *PROCESSES, "disk full", "file damaged")
COSTS = ("seconds", "generated", "created", "updated", "images_per_second", "code", "digest")


@dataclass
class Tally:
    """What one sweep's faults did.

    misreported: runs that ended with exit code 0 before all was there, or in peace with another.
    redone: epochs trained again. starts: seconds from each restart to its first epoch.
    """

    sweep: int
    kind: str
    injected: int = 0
    lost: int = 0
    doubled: int = 0
    unequal: int = 0
    misreported: int = 0
    hung: int = 0
    traceback: int = 0
    orphans: int = 0
    redone: int = 0
    starts: list[float] = field(default_factory=list)
    skipped: str | None = None


class Victim:
    """A sweep that is hit, and what it did."""

    def __init__(self, number: int, kind: str, place: Path, cache: Path, seed: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.draws = random.Random(f"{seed}/{number}")
        self.tally = Tally(number, kind)
        self.sweep = Sweep(place, cache)
        self.epochs_file = place / "epochs.jsonl"
        self.said = place / "said.txt"
        self.first_written: dict[str, int] = {}
        self.damaged: set[str] = set()

    def start(self) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join(filter(None, [str(WATCHED), os.environ.get("PYTHONPATH")]))
        ours = {"RAY_ADDRESS": "local", "PYTHONPATH": path, "WATCHED_EPOCHS": str(self.epochs_file)}
        ours |= dict([self.sweep.token.split("=")])
        with self.said.open("ab") as said:
            return subprocess.Popen(
                self.sweep.command(), stdout=said, stderr=said, env=os.environ | ours
            )

    def epochs(self) -> list[list[Any]]:
        """Time, process, pack and epoch of each that was trained."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.epochs_file.read_text().splitlines()]
        return []

    def run(self, most: int) -> int:
        """The command once; returns how many faults, of so many at most, hit it.

        A fault after which the command goes on is followed by the next in the same run.
        """
        began, before, hits = time.time(), len(self.epochs()), 0
        process = self.start()
        try:
            while hits < most and self._wait_for_the_moment(process) and self._hit(process):
                hits += 1
            process.wait(HANGS)
        except subprocess.TimeoutExpired:
            self.tally.hung += 1
            process.kill()
            process.wait()
        trained = self.epochs()[before:]
        if before and trained:
            self.tally.starts.append(trained[0][0] - began)
        self._note_results()
        self.tally.injected += hits
        if process.returncode == 0:
            self.tally.misreported += len(self.finished()) < TRIALS
        else:
            self.tally.misreported += most == 0
        return hits

    def _wait_for_the_moment(self, process: "subprocess.Popen[bytes]") -> bool:
        """False where the run ended before it."""
        if self.tally.kind in DRIVER and self.draws.random() < 0.25:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.draws.uniform(0, IMPORTING))
            return process.poll() is None
        wanted = len(self.epochs()) + self.draws.randint(1, LATEST)
        deadline = time.monotonic() + HANGS
        while len(self.epochs()) < wanted and process.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, HANGS)
            time.sleep(0.02)
        return process.poll() is None

    def _hit(self, process: "subprocess.Popen[bytes]") -> bool:
        kind = self.tally.kind
        if kind in DRIVER:
            process.send_signal(DRIVER[kind])
            process.wait(HANGS)
        elif kind == "disk full":
            ballast = self.sweep.folder / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            process.wait(HANGS)
            ballast.unlink()
        elif kind == "file damaged":
            process.kill()
            process.wait()
            self._damage()
        else:
            target = self.epochs()[-1][1] if kind == "worker" else self._named(PROCESSES[kind])
            if target is None:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, self.draws.choice([signal.SIGKILL, signal.SIGTERM]))
        return True

    def _named(self, program: str) -> int | None:
        for process in processes(self.sweep.token):
            with contextlib.suppress(OSError):
                first = (process / "cmdline").read_bytes().split(b"\0")[0].decode()
                if Path(first).name == program:
                    return int(process.name)
        return None

    def _damage(self) -> None:
        """Tear or garble one of the files while nothing runs."""
        self._note_results()
        folder = self.sweep.folder
        found = sorted(p for part in ("trials", "packs") for p in folder.glob(f"{part}/[0-9a-f]*"))
        path = self.draws.choice([*found, folder / "spec.yaml"])
        content = bytearray(path.read_bytes())
        if self.draws.random() < 0.5:
            content = content[: self.draws.randrange(len(content))]
        else:
            content[self.draws.randrange(len(content))] ^= 1 << self.draws.randrange(8)
        path.write_bytes(content)
        self.damaged.add(path.name)

    def _note_results(self) -> None:
        for name, changed in self.finished().items():
            self.first_written.setdefault(name, changed)

    def finished(self) -> dict[str, int]:
        """When each result was written; a failed one may be written again."""
        finished = {}
        for path in self.sweep.folder.glob("trials/*.json"):
            with contextlib.suppress(ValueError):  # damaged
                if json.loads(path.read_bytes())["status"] != "failed":
                    finished[path.name] = path.stat().st_mtime_ns
        return finished

    def judge(self, calm: "Victim") -> Tally:
        """Compare its end with that of a sweep which nothing disturbed."""
        tally = self.tally
        deadline = time.monotonic() + GONE
        while (left := list(processes(self.sweep.token))) and time.monotonic() < deadline:
            time.sleep(0.2)
        tally.orphans = len(left)
        self.sweep.stop()
        ours, theirs = outcome(self.sweep.results()), outcome(calm.sweep.results())
        tally.lost = len(theirs.keys() - ours.keys())
        tally.unequal = sum(ours[trial] != theirs.get(trial) for trial in ours)
        tally.unequal += self.board() != calm.board()
        again = {n for n, changed in self.finished().items() if changed != self.first_written[n]}
        tally.doubled = len(again - self.damaged)
        logged = Counter(run.id for run in runs(self.sweep.folder / "wandb"))
        tally.doubled += sum(count - 1 for count in logged.values())
        tally.lost += len(theirs.keys() - logged.keys())
        tally.traceback = self.said.read_text(errors="replace").count("Traceback (most recent")
        tally.redone = len(self.epochs()) - len({(e[2], e[3]) for e in self.epochs()})
        return tally

    def board(self) -> Any:
        """leaderboard.json but for times."""
        try:
            return timeless(json.loads((self.sweep.folder / "leaderboard.json").read_text()))
        except (OSError, ValueError) as error:
            return repr(error)


def timeless(value: Any) -> Any:
    """Plain data without what a run cost and when it was."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in COSTS}
    return [timeless(v) for v in value] if isinstance(value, list) else value


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str | None]:
    """A file system of a few megabytes at a folder; tells why there can be none."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        yield mounted.stderr.strip() if mounted.returncode else None
    finally:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def disturb(number: int, folder: Path, seed: int, calm: Victim) -> Tally:
    """One sweep under faults, to its end."""
    kind = KINDS[number % len(KINDS)]
    victim = Victim(number, kind, folder / f"{number}-{os.getpid()}", folder / "cache", seed)
    with contextlib.ExitStack() as stack:
        if kind == "disk full":
            why = stack.enter_context(small_disk(victim.sweep.folder))
            if why:
                victim.tally.skipped = why
                return victim.tally
        stack.callback(victim.sweep.stop)
        for _ in range(FAULTS):
            if victim.tally.injected < FAULTS:
                victim.run(FAULTS - victim.tally.injected)
        victim.run(0)
        return victim.judge(calm)


def report(tallies: list[Tally]) -> None:
    """Print the table by kind."""
    sums = [kept.name for kept in fields(Tally) if isinstance(kept.default, int)]
    print(f"| kind | sweeps | {' | '.join(sums)} | s to the first epoch: median, most |")
    print("|---" * (len(sums) + 3) + "|")
    for kind in KINDS:
        own = [tally for tally in tallies if tally.kind == kind and not tally.skipped]
        skipped = {tally.skipped for tally in tallies if tally.kind == kind and tally.skipped}
        starts = [seconds for tally in own for seconds in tally.starts]
        told = f"{statistics.median(starts):.1f}, {max(starts):.1f}" if starts else "-"
        told = "; ".join(map(str, skipped)) or told
        cells = [sum(getattr(tally, name) for tally in own) for name in sums]
        print(f"| {kind} | {len(own)} | {' | '.join(map(str, cells))} | {told} |")


def main() -> None:
    """Run what is missing of the campaign, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # What was started in the background ignores Ctrl-C, and so would the drivers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"seed-{options.seed}.jsonl"
    kept.touch()
    tallies = [Tally(**json.loads(line)) for line in kept.read_text().splitlines()]
    calm = Victim(-1, "none", folder / "calm", folder / "cache", options.seed)
    if len(calm.finished()) < TRIALS:
        calm.run(0)
    if len(calm.finished()) < TRIALS:
        sys.exit(f"the sweep doesn't even end undisturbed: see {calm.said}")
    while len(tallies) * FAULTS < options.faults:
        tallies.append(disturb(len(tallies), folder, options.seed, calm))
        with kept.open("a") as file:
            print(json.dumps(asdict(tallies[-1])), file=file)
        print(tallies[-1], file=sys.stderr, flush=True)
    report(tallies)


if __name__ == "__main__":
    main()

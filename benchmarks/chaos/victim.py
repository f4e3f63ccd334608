"""A command that faults hit: its runs, what they trained, and what lies in its folder."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.chaos.tally import Tally
from tests.sweeps import processes

WATCHED = Path(__file__).parent / "watched"
HANGS = 600.0  # seconds after which a run counts as hung
GONE = 60.0  # seconds that processes have to end after the last run

Process = subprocess.Popen[bytes]
T = TypeVar("T")


def until(happened: Callable[[], T], process: Process) -> T | None:
    """What has happened, as soon as it has; None if the process ends first.

    Raises:
        TimeoutExpired: neither comes in the time after which a run counts as hung.
    """
    deadline = time.monotonic() + HANGS
    while process.poll() is None:
        if found := happened():
            return found
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, HANGS)
        time.sleep(0.05)
    return None


@dataclass(frozen=True)
class Epoch:
    """One that was trained. saved: a checkpoint or results had it before it was noted."""

    time: float
    process: int
    training: str
    number: int
    saved: bool


class Victim(ABC):
    """A command that trains so many trials, and all that is known of it from outside.

    token: what its processes have in their environment. folder: where it writes. damaged: names of
    files that were damaged. unsaved: trainings that these made begin anew.
    """

    trials: int
    files: tuple[str, ...]  # that are damaged: patterns below the folder

    def __init__(self, place: Path, folder: Path, token: str, seed: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.folder, self.token = folder, token
        self.draws = random.Random(seed)
        self.said = place / "said.txt"
        self.first_written: dict[str, int] = {}
        self.damaged: set[str] = set()
        self.unsaved: set[str] = set()
        self._epochs_file = place / "epochs.jsonl"

    @abstractmethod
    def command(self) -> list[str]:
        """What is run, again and again."""

    def environment(self) -> dict[str, str]:
        """What its processes have in their environment besides."""
        return {}

    @abstractmethod
    def finished(self) -> dict[str, int]:
        """When each trial's result was written."""

    @abstractmethod
    def judge(self, tally: Tally) -> None:
        """Compare its end with that of one which nothing disturbed."""

    def start(self) -> Process:
        """The command as a process with a Ray cluster of its own."""
        path = os.pathsep.join(filter(None, [str(WATCHED), os.environ.get("PYTHONPATH")]))
        ours = {"PYTHONPATH": path, "WATCHED_EPOCHS": str(self._epochs_file)}
        ours |= {"RAY_ADDRESS": "local", **dict([self.token.split("=")]), **self.environment()}
        with self.said.open("ab") as said:
            return subprocess.Popen(
                self.command(),
                stdout=said,
                stderr=said,
                env=os.environ | ours,
                start_new_session=True,  # Ctrl-C is for the campaign
            )

    def epochs(self) -> list[Epoch]:
        """All that were trained, in the order in which they ended."""
        try:
            lines = self._epochs_file.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [Epoch(*json.loads(line)) for line in lines]

    def process(self, program: str) -> int | None:
        """The process of its runs that is a program."""
        for process in processes(self.token):
            with contextlib.suppress(OSError):
                first = (process / "cmdline").read_bytes().split(b"\0")[0].decode()
                if Path(first).name == program:
                    return int(process.name)
        return None

    def complete(self) -> bool:
        return len(self.finished()) == self.trials

    def said_last(self, words: str) -> bool:
        """Whether the last line that its last run printed has some words."""
        return words in self.said.read_text(errors="replace").strip().rpartition("\n")[2]

    def note_results(self) -> None:
        """Keep when results were written first, to know later that they stayed."""
        for name, changed in self.finished().items():
            self.first_written.setdefault(name, changed)

    def damage(self, path: Path) -> None:
        """Cut a file short, or flip a bit of it."""
        content = bytearray(path.read_bytes())
        if not content:
            return
        self.note_damage(path)
        if self.draws.random() < 0.5:
            content = content[: self.draws.randrange(len(content))]
        else:
            content[self.draws.randrange(len(content))] ^= 1 << self.draws.randrange(8)
        path.write_bytes(content)

    def note_damage(self, path: Path) -> None:
        """Keep what may be made again because of a damaged file."""
        self.damaged.add(path.name)

    def stop(self) -> None:
        """Kill what is left of it."""
        for process in processes(self.token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)

    def count(self, tally: Tally) -> None:
        """What is counted alike whatever the command is."""
        deadline = time.monotonic() + GONE
        while (left := list(processes(self.token))) and time.monotonic() < deadline:
            time.sleep(0.2)
        tally.orphans = len(left)
        tally.traceback = self.said.read_text(errors="replace").count("Traceback (most recent")
        epochs = self.epochs()
        tally.redone = len(epochs) - len({(epoch.training, epoch.number) for epoch in epochs})
        tally.needless = _needless(e for e in epochs if e.training not in self.unsaved)


def _needless(epochs: Iterable[Epoch]) -> int:
    """How many were trained again although a checkpoint had them."""
    saved: dict[str, int] = {}
    count = 0
    for epoch in epochs:
        count += epoch.number <= saved.get(epoch.training, 0)
        if epoch.saved:
            saved[epoch.training] = max(epoch.number, saved.get(epoch.training, 0))
    return count

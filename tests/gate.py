"""A gate at which packs wait for a test, so that what it disturbs can't be over before it comes.

The other side, in the workers' processes, is tests/held/sitecustomize.py.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

HOOK = Path(__file__).parent / "held"


@dataclass(frozen=True)
class Held:
    """A pack that waits at the gate, and where."""

    pack: str
    host: str
    process: int

    def kill(self) -> None:
        """Kill the process that trains it."""
        assert self.host == socket.gethostname()
        os.kill(self.process, signal.SIGKILL)


class Gate:
    """Closed at first: each pack waits after its first epoch.

    folder: the packs' announcements; seen_as: where the workers find it, if elsewhere.
    """

    def __init__(self, folder: Path, seen_as: Path | None = None) -> None:
        folder.mkdir(parents=True)
        self._folder, self._seen_as = folder, seen_as or folder

    def environment(self, at: str = "first epoch") -> dict[str, str]:
        """What a worker's process must have in its environment. at: or "start"."""
        path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "HELD_PACKS": str(self._seen_as), "HELD_AT": at}

    def held(self) -> list[Held]:
        """Those that wait now."""
        files = [file for file in self._folder.glob("*") if not file.name.startswith(".")]
        return [Held(pack=file.name, **json.loads(file.read_text())) for file in files]

    def release(self, held: Held) -> None:
        """Let one go on."""
        (self._folder / held.pack).unlink()

    def forget(self) -> None:
        """Forget those that wait, once their processes have died with their driver."""
        for held in self.held():
            wait_until(lambda held=held: not Path(f"/proc/{held.process}").exists())
            self.release(held)

    def open(self) -> None:
        """Let all go on, and hold none any more."""
        self._folder.rename(self._folder.with_suffix(".opened"))


def wait_until(happened: Callable[[], object], *processes: subprocess.Popen[str]) -> None:
    """Wait until something has happened that is sure to happen, and stays so, while these run."""
    while not happened():
        for process in processes:
            if process.poll() is not None:
                pytest.fail(f"it ended before it could be disturbed: {process.communicate()}")
        time.sleep(0.05)

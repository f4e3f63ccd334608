"""A folder for what a run leaves nowhere else: Ray's sockets and logs, Tune's own files.

Its path is short, since a socket's may have 107 characters, and it is locked as long as its run
lives. So what a killed run left (its folder, and processes that Ray started for it) is known for
what it is, and the next run on this machine clears it away.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from arc_train.errors import InputError

PREFIX = "arc-sweep-"
OURS = "ARC_SWEEP_SCRATCH"  # names it in the environment of all that the run starts
LONGEST = 24  # of the folder that it is made in: Ray adds up to 64 characters to ours


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this run's own, as long as the block runs.

    Raises:
        InputError: none can be made anywhere.
    """
    place, lock = _make()
    try:
        _clear(place.parent)
        os.environ[OURS] = str(place)
        yield place
    finally:
        os.environ.pop(OURS, None)
        _remove(place)
        lock.close()


def _make() -> tuple[Path, IO[bytes]]:
    """A new folder and its lock: in RAY_TMPDIR, in TMPDIR, or where there is one for all."""
    asked = (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm")
    reasons = []
    for base in dict.fromkeys(filter(None, asked)):
        if len(base) > LONGEST:
            reasons.append(f"{base} is too long for sockets")
            continue
        try:
            place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            lock = (place / "new").open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (place / "new").rename(place / "lock")  # nobody sees it unlocked
        except OSError as error:
            reasons.append(f"{base}: {error.strerror}")
            continue
        return place, lock
    raise InputError(
        f"no folder for temporary files ({'; '.join(reasons)}): set TMPDIR to a short one that can "
        "be written"
    )


def _clear(base: Path) -> None:
    """Clear away what runs of ours left that were killed."""
    for lock in base.glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end_processes(lock.parent)
            _remove(lock.parent)


def _remove(place: Path) -> None:
    """Remove a folder, its lock last: where something still writes, the next run finds the rest."""
    for part in place.glob("*"):
        if part.name != "lock":
            shutil.rmtree(part, ignore_errors=True)
            with contextlib.suppress(OSError):
                part.unlink()  # if it is a file
    if not any(part.name != "lock" for part in place.glob("*")):
        shutil.rmtree(place, ignore_errors=True)


def end_processes(place: Path) -> None:
    """Kill the processes that Ray started for a folder."""
    for process in _started_for(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _started_for(place: Path) -> Iterator[int]:
    """Ray's processes whose command line names a folder; some hide theirs behind a title."""
    argument, variable = os.fsencode(f"{place}/"), os.fsencode(f"{OURS}={place}\0")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            titled = command.startswith(b"ray::")
            if argument in command or (titled and variable in (process / "environ").read_bytes()):
                yield int(process.name)

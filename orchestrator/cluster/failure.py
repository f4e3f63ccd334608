"""Why a worker failed: the error of its pack, or how its process ended."""

import pickle
import re
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError

KILLED = "connection error code 2"  # Ray's words for a process that is gone without a word


class WorkerDied(Exception):
    """A worker's process ended before its pack did. preempted: its node was taken away."""

    def __init__(self, how: str, preempted: bool = False) -> None:
        super().__init__(how)
        self.preempted = preempted


def failure_of(trial: Any) -> BaseException:
    """What made a trial of Tune's fail: an error of ours where the worker raised one."""
    error = _left_by(trial)
    if error is None:
        return WorkerDied("between two packs")
    if cause := getattr(error, "cause", None):
        found: BaseException = cause
        return found
    if isinstance(error, RayActorError):
        return WorkerDied(_ended(str(error)), error.preempted)
    return error


def _left_by(trial: Any) -> BaseException | None:
    """The error that a trial left, if it left any.

    Tune leaves the error in a folder of the driver and copies it some time later to where
    `Trial.get_pickled_error` looks for it. Of what is neither a task's error nor an actor's (as
    a worker killed for memory) there is but the text, below a line with the time.
    """
    path = trial.pickled_error_file
    if path is not None and Path(path).exists():
        error: BaseException = pickle.loads(Path(path).read_bytes())
        return error
    path = trial.error_file
    if path is None or not Path(path).exists():
        return None
    _, _, last = Path(path).read_text().rpartition("Failure # ")
    _, _, reason = last.partition("\n")
    return RuntimeError(" ".join(reason.split())[:500]) if reason.strip() else None


def _ended(said: str) -> str:
    """How a process ended, of all that Ray says of an actor's death: where, and by what."""
    where = re.search(r"^\s*ip: (\S+)", said, re.MULTILINE)
    _, _, detail = said.partition("Worker exit detail: ")
    how = " ".join((detail or said).split())
    if KILLED in how:
        how = "killed, by the kernel for lack of memory or by another process, or crashed"
    return f"on {where[1]}: {how}" if where else how

"""Which W&B runs of a sweep are finished: `wandb/logged.jsonl`, a line for each."""

import contextlib
import json
import os
import shutil
from pathlib import Path


class Ledger:
    """Which runs are finished, in which mode, and of which state: a trial's status, say."""

    def __init__(self, folder: Path, mode: str) -> None:
        self._folder, self._mode = folder, mode
        self._path = folder / "logged.jsonl"
        self._states: dict[str, tuple[str, str]] = {}
        folder.mkdir(exist_ok=True)
        with self._path.open("a+", errors="replace") as file:  # also: may we write here?
            file.seek(0)
            content = file.read()
        self._torn = bool(content) and not content.endswith("\n")
        for line in content.splitlines():
            # What a damaged line says is written again, with its run.
            with contextlib.suppress(ValueError, TypeError, LookupError):
                entry = json.loads(line)
                self._states[str(entry["id"])] = str(entry["status"]), str(entry["mode"])

    def has(self, trial: str, state: str) -> bool:
        """Whether a run is finished as it is now, and online if that is where it is wanted."""
        there, mode = self._states.get(trial, (None, None))
        return there == state and mode in ("online", self._mode)

    def remove_run(self, trial: str) -> None:
        """Remove what is left of an earlier attempt: one cut by a kill, offline, or that failed."""
        for run in self._folder.glob(f"*run-*-{trial}"):
            shutil.rmtree(run)

    def add(self, trial: str, state: str, run: str) -> None:
        """Note a finished run, on disk before anything else happens."""
        entry = {"id": trial, "status": state, "mode": self._mode, "run": run}
        with self._path.open("a") as file:
            file.write("\n" * self._torn + json.dumps(entry) + "\n")
            self._torn = True  # until this line is known to be there whole
            file.flush()
            os.fsync(file.fileno())
        self._torn = False
        self._states[trial] = state, self._mode

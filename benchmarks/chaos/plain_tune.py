"""Plain Ray Tune as a victim: the twelve search trials of the sweep, in a script of its own."""

import json
import sys
import uuid
from collections import Counter
from pathlib import Path

from benchmarks.chaos.tally import Tally
from benchmarks.chaos.victim import Process, Victim
from tests.sweeps import Sweep
from tests.wandb_files import runs

SCRIPT = "benchmarks.chaos.plain_script"


class PlainTune(Victim):
    """plain_script.py in a folder of its own.

    sweep: whose trials it trains. calm: the undisturbed one; None for itself.
    """

    trials = 12
    files = (
        *("tune/experiment_state-*.json", "tune/searcher-state-*", "tune/tuner.pkl"),
        *("tune/train_*/*.json", "tune/train_*/checkpoint_*/*", "wandb/offline-run-*/*.wandb"),
    )

    def __init__(self, place: Path, seed: str, sweep: Sweep, calm: "PlainTune | None") -> None:
        token = f"ARC_SWEEP_TEST={uuid.uuid4()}"
        super().__init__(place, place / "results", token, seed)
        self._sweep, self._calm = sweep, calm or self

    def start(self) -> Process:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "results.json").unlink(missing_ok=True)  # what the last run said
        return super().start()

    def environment(self) -> dict[str, str]:
        return {"WANDB_MODE": "offline", "WANDB_DIR": str(self.folder)}

    def command(self) -> list[str]:
        script = f"from {SCRIPT} import main; main()"  # a script of its own would pickle itself
        return [sys.executable, "-c", script, str(self._sweep.folder), str(self.folder)]

    def finished(self) -> dict[str, int]:
        """Trials that ended without an error, as the script's last run says."""
        return dict.fromkeys(self.accuracies(), 0)

    def accuracies(self) -> dict[str, float]:
        """Of the trials that ended without an error."""
        return {trial: reached for trial, reached, error in self._ended() if reached and not error}

    def judge(self, tally: Tally) -> None:
        """Each trial once, with a run of W&B's, and as accurate as in the undisturbed script."""
        self.count(tally)
        ours, theirs = self.accuracies(), self._calm.accuracies()
        tally.lost = len(theirs.keys() - ours.keys())
        tally.unequal = sum(reached != theirs.get(trial) for trial, reached in ours.items())
        rows = Counter(trial for trial, _, _ in self._ended())
        logged = Counter(run.config.get("trial") for run in runs(self.folder / "wandb"))
        tally.doubled = sum(count - 1 for count in (*rows.values(), *logged.values()))
        tally.lost += max(0, len(theirs) - len(logged))

    def _ended(self) -> list[tuple[str, float | None, str]]:
        """Trial, accuracy and error of each row of the script's table."""
        try:
            ended = json.loads((self.folder / "results.json").read_text())
        except (OSError, ValueError):
            return []
        return [(str(trial), reached, error) for trial, reached, error in ended]

"""`arc-sweep run` as a victim: twenty trials, whose files must end as an undisturbed sweep's."""

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.chaos.tally import Tally
from benchmarks.chaos.victim import Victim
from tests.sweeps import TRIALS, Sweep, outcome
from tests.wandb_files import runs

COSTS = ("seconds", "generated", "created", "updated", "images_per_second", "code", "digest")


class ArcSweep(Victim):
    """A sweep in a folder of its own. calm: the undisturbed one; None for itself."""

    trials = TRIALS
    files = (
        *("trials/*", "packs/*", "adapters/*", "predictions/*"),
        *("wandb/logged.jsonl", "spec.yaml"),
    )

    def __init__(self, place: Path, cache: Path, seed: str, calm: Sweep | None) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.sweep = Sweep(place, cache)
        self.sweep.use_two_workers()
        self._calm = calm or self.sweep
        super().__init__(place, self.sweep.folder, self.sweep.token, seed)

    def command(self) -> list[str]:
        return self.sweep.command()

    def finished(self) -> dict[str, int]:
        """When each result was written; a failed one may be written again."""
        finished = {}
        for path in self.folder.glob("trials/*.json"):
            with contextlib.suppress(ValueError, KeyError):  # damaged
                if json.loads(path.read_bytes())["status"] != "failed":
                    finished[path.name] = path.stat().st_mtime_ns
        return finished

    def note_damage(self, path: Path) -> None:
        """A trial's result may be written again, and its pack be trained anew."""
        trial = path.name.split(".")[0]
        self.damaged.add(f"{trial}.json")
        for record in self.folder.glob("packs/*.json"):
            if trial in record.name or trial in record.read_text(errors="replace"):
                self.unsaved.add(record.stem)

    def judge(self, tally: Tally) -> None:
        """All results, W&B runs and the leaderboard, but for times, are those of the calm sweep."""
        self.count(tally)
        ours, theirs = outcome(self.sweep.results()), outcome(self._calm.results())
        tally.lost = len(theirs.keys() - ours.keys())
        tally.unequal = sum(ours[trial] != theirs.get(trial) for trial in ours)
        tally.unequal += _board(self.sweep) != _board(self._calm)
        now, first = self.finished(), self.first_written
        tally.doubled = len({n for n in now if now[n] != first.get(n, now[n])} - self.damaged)
        logged = Counter(run.id for run in runs(self.folder / "wandb"))
        tally.doubled += sum(count - 1 for count in logged.values())
        tally.lost += len(theirs.keys() - logged.keys())


def _board(sweep: Sweep) -> Any:
    """leaderboard.json but for times."""
    try:
        return _timeless(json.loads((sweep.folder / "leaderboard.json").read_text()))
    except (OSError, ValueError) as error:
        return repr(error)


def _timeless(value: Any) -> Any:
    """Plain data without what a run cost and when it was."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in COSTS}
    return [_timeless(v) for v in value] if isinstance(value, list) else value

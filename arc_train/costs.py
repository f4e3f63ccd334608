"""What a pack costs, shared by the trials that are in training."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from arc_train.energy import EnergyMeter


class Costs:
    """Each trial's share of its pack's time and energy.

    trials: their ids.
    """

    def __init__(self, trials: Iterable[str], device: torch.device) -> None:
        self._seconds = dict.fromkeys(trials, 0.0)
        self._joules: dict[str, float] | None = dict.fromkeys(self._seconds, 0.0)
        self._clock = time.perf_counter()
        self._meter = EnergyMeter(device)

    def restart(self) -> None:
        """From here on: what was spent since the last call is no trial's."""
        self._spent()

    def charge(self, trials: Sequence[str]) -> None:
        """Charge what was spent since the last call to some trials in equal parts."""
        seconds, joules = self._spent()
        if joules is None:
            self._joules = None  # of a sum that lacks a part nothing is said
        for trial in trials:
            self._seconds[trial] += seconds / len(trials)
            if self._joules is not None and joules is not None:
                self._joules[trial] += joules / len(trials)

    def _spent(self) -> tuple[float, float | None]:
        """Seconds and joules since the last call."""
        last, self._clock = self._clock, time.perf_counter()
        return self._clock - last, self._meter.spent()

    def seconds(self, trial: str) -> float:
        """A trial's time."""
        return self._seconds[trial]

    def energy(self, trial: str) -> float | None:
        """A trial's energy in joules; None where a part of it wasn't told."""
        return self._joules[trial] if self._joules else None

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as plain values."""
        return {"seconds": self._seconds, "joules": self._joules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; checkpoints of older code know no joules."""
        self._seconds, self._joules = dict(state["seconds"]), state.get("joules")

"""What a worker tells the driver of its pack, after each step, and whom the driver tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.store.pack import PackPlan
from orchestrator.store.result import Curve, Result


@dataclass(frozen=True, slots=True)
class PackReport:
    """How far a pack is.

    alive: trials in training. images: training images since the last report, over all trials.
    seconds: that the worker has spent on the pack. ended: ids of trials that got a result since
    the last report. curves: trial id -> rows since the last report, of trials in training. notes:
    what else the user should hear: that a checkpoint or the node's cache was damaged.
    """

    pack: str
    epoch: int
    alive: int
    images: int
    seconds: float
    ended: tuple[str, ...]
    curves: Mapping[str, Curve]
    done: bool
    notes: tuple[str, ...] = ()

    def to_tune(self) -> dict[str, Any]:
        """As Tune carries results: a dictionary, to which it adds keys of its own."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @staticmethod
    def from_tune(result: Mapping[str, Any]) -> "PackReport":
        """The report in a result of Tune's."""
        return PackReport(**{entry.name: result[entry.name] for entry in fields(PackReport)})


@dataclass(frozen=True)
class Reports:
    """The driver's callbacks, called on Tune's thread: each must return quickly.

    say: a line for the user. failed: a pack, its trials that are given up (none if it is tried
    again), and the reason.
    """

    say: Callable[[str], None]
    started: Callable[[PackPlan], None]
    reported: Callable[[PackPlan, PackReport], None]
    failed: Callable[[PackPlan, list[Result], str], None]

"""How a trial ended, and its curve."""

from dataclasses import dataclass
from typing import NamedTuple


class CurveRow(NamedTuple):
    """One epoch of a trial: mean losses, accuracy in percent; None where nothing was validated."""

    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Accuracies in percent. seconds: the trial's share of its pack's time. images_per_second:
    trained on, in that time. peak_memory: of the pack, in bytes; None on a CPU. energy: the
    trial's share of what the GPU took, in joules; None where that isn't told. execution: how steps
    ran (execution.py).
    """

    id: str
    status: str
    epochs_run: int
    curve: tuple[CurveRow, ...]
    val_loss: float | None
    val_accuracy: float | None
    trainable_params: int
    adapter_params: int
    seconds: float
    images_per_second: float
    peak_memory: int | None
    execution: str
    energy: float | None = None
    note: str | None = None

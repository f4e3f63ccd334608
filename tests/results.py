"""Results as values, for tests that need some and train nothing."""

from itertools import count
from typing import Any

from arc_train.outcome import CurveRow
from orchestrator.store.result import CodeInfo, DataInfo, MeterRow, Result

_ids = count()


def result(trial: str | None = None, **fields: Any) -> Result:
    """A search trial that is done, but for the given fields; curves as plain rows."""
    made: dict[str, Any] = {
        "id": trial or f"{next(_ids):016x}",
        "kind": "search",
        "backbone": "b",
        "method": "arc",
        "task": "vtab/cifar100",
        "config": {"lr": 0.01, "rank": 8},
        "seed": 0,
        "epochs_run": 4,
        "status": "done",
        "note": None,
        "val_accuracy": 50.0,
        "val_loss": 1.0,
        "test_accuracy": None,
        "trainable_params": 1000,
        "adapter_params": 900,
        "curve": (),
        "seconds": 2.0,
        "data": DataInfo(variant="published split", fingerprint="f", val_images=200),
        "code": CodeInfo("0.1.0", None),
        "packages": {"torch": "2"},
        "device": "cpu",
    }
    made |= fields
    made["curve"] = tuple(CurveRow(*row) for row in made["curve"])
    if made.get("test_curve") is not None:
        made["test_curve"] = tuple(MeterRow(*row) for row in made["test_curve"])
    return Result(**made)


def final(seed: int, accuracy: float, **fields: Any) -> Result:
    """A final of the same trial, tested."""
    tested = {"kind": "final", "seed": seed, "test_accuracy": accuracy}
    return result(**{**tested, "val_accuracy": None, "val_loss": None, **fields})

"""Adaptation, data and packed training. Knows nothing of Ray, W&B or sweeps."""

from arc_train.adaptation import adapt, adapter_state, fold, load_adapter
from arc_train.errors import InputError, NotFoldable
from arc_train.methods import METHODS

__all__ = [
    "METHODS",
    "InputError",
    "NotFoldable",
    "adapt",
    "adapter_state",
    "fold",
    "load_adapter",
]

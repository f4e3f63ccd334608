"""Adaptation, data and packed training. Knows nothing of Ray, W&B or sweeps.

What needs torch is imported when it is asked for, so that looking at tasks stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arc_train.errors import InputError, NotFoldable

if TYPE_CHECKING:
    from arc_train.adaptation import adapt, adapter_state, fold, load_adapter
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{'methods' if name == 'METHODS' else 'adaptation'}")
    return getattr(module, name)

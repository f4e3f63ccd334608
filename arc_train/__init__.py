"""Adaptation, data and packed training. Knows nothing of Ray, W&B or sweeps.

What needs torch is imported when it is asked for, so that looking at tasks stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arc_train.errors import InputError, NotFoldable

if TYPE_CHECKING:
    from arc_train.adaptation import adapt, adapter_state, fold, load_adapter
    from arc_train.finetuning import finetune
    from arc_train.methods import METHODS
    from arc_train.searching import search
    from arc_train.study_result import Finetuned, Search

__all__ = [
    "METHODS",
    "Finetuned",
    "InputError",
    "NotFoldable",
    "Search",
    "adapt",
    "adapter_state",
    "finetune",
    "fold",
    "load_adapter",
    "search",
]
_ELSEWHERE = {
    "METHODS": "methods",
    "Finetuned": "study_result",
    "Search": "study_result",
    "finetune": "finetuning",
    "search": "searching",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_ELSEWHERE.get(name, 'adaptation')}")
    return getattr(module, name)

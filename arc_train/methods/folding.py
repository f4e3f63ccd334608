"""Merging adapters into the frozen layers they act on."""

from collections.abc import Callable

from torch import nn


def merge(backbone: nn.Module) -> None:
    """Replace every adapted module by the plain one it `folded` into, in place."""
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            folded: Callable[[], nn.Module] | None = getattr(child, "folded", None)
            if folded:
                setattr(parent, name, folded())

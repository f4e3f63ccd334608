"""Merging adapters into the frozen layers they act on."""

from collections.abc import Callable

from torch import Tensor, nn


def merge(module: nn.Module) -> None:
    """Replace every adapted module below by the plain one it `folded` into, in place."""
    for name, child in list(module.named_children()):
        folded: Callable[[], nn.Module] | None = getattr(child, "folded", None)
        plain = folded() if folded else child
        setattr(module, name, plain)
        merge(plain)


def updated(linear: nn.Linear, update: Tensor) -> nn.Linear:
    """A plain layer whose weight is the given one's plus an update [out, in]; the same bias."""
    plain = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    plain.weight.copy_(linear.weight.double() + update)
    if linear.bias is not None:
        plain.bias.copy_(linear.bias)
    return plain

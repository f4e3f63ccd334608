"""LN-tuning: weight and bias of every LayerNorm are trained, the final one's included.

Weight decay, which would pull a weight to zero and not to where it started, leaves them alone.
"""

from typing import Any

from torch import nn

from arc_train.adapting import Adapting
from arc_train.errors import InputError
from arc_train.methods.folding import merge
from arc_train.methods.ssf import Scaled
from arc_train.structure import replace, sites


class TrainedNorm(Scaled):
    """A LayerNorm with `scale` [T, D] and `shift` [T, D] in the place of its weight and bias."""

    def folded(self) -> nn.Module:
        """The norm with its trained weight and bias."""
        self.operation.weight = nn.Parameter(self.scale[0].clone())
        self.operation.bias = nn.Parameter(self.shift[0].clone())
        return self.operation


def attach(backbone: nn.Module, parts: Adapting) -> None:
    """Every LayerNorm of the backbone.

    Raises:
        InputError: a backbone without blocks that are known, or a norm without a bias.
    """
    sites(backbone)
    train_norms(backbone, parts)


def train_norms(backbone: nn.Module, parts: Adapting) -> None:
    """Train the LayerNorms, under timm's own names, in copies of their weights."""
    for path, module in list(backbone.named_modules()):
        if isinstance(module, nn.LayerNorm) and module.weight is not None:
            replace(backbone, path, _trained(module, path, parts))


def _trained(norm: Any, path: str, parts: Adapting) -> TrainedNorm:
    if norm.bias is None:
        raise InputError(f"{path} has no bias; layernorm and difffit train weight and bias")
    weight = parts.trained.add(f"{path}.weight", norm.weight)
    bias = parts.trained.add(f"{path}.bias", norm.bias)
    norm.weight = norm.bias = None
    return TrainedNorm(norm, weight, bias, parts.trials)


fold = merge

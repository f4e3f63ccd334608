"""DiffFit (Xie et al., ICCV 2023): every bias, every LayerNorm, and a scale after each sublayer.

    x  ->  x + g1 * attention(norm1(x))  ->  x + g2 * FFN(norm2(x)),   g1, g2 [D] start at 1

The scales act on the outputs of `attn.proj` and `mlp.fc2`, into which they fold. Weight decay
leaves vectors alone: of these only a bias is neutral at zero.
"""

from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.methods.bias import attach as attach_bias
from arc_train.methods.folding import merge
from arc_train.methods.layernorm import train_norms
from arc_train.structure import sites
from arc_train.trials import by_trial


class Gained(nn.Module):
    """An operation, adapted itself or not, whose output is multiplied by `gain` [T, D]."""

    def __init__(self, operation: nn.Module, gain: nn.Parameter) -> None:
        super().__init__()
        self.operation = operation
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., in] -> [T*B, ..., D]."""
        y: Tensor = self.operation(x)
        return (by_trial(y, self.gain) * self.gain[:, None]).view_as(y)

    def folded(self) -> nn.Module:
        """The operation with the gain in its weight and bias."""
        plain: Any = self.operation
        if hasattr(plain, "folded"):
            plain = plain.folded()
        plain.weight = nn.Parameter(plain.weight * self.gain[0, :, None])
        if plain.bias is not None:
            plain.bias = nn.Parameter(plain.bias * self.gain[0])
        operation: nn.Module = plain
        return operation


def attach(backbone: nn.Module, parts: Adapting) -> None:
    """Biases and norms in copies of their own, and two gains a block."""
    ends = [
        (f"difffit.{i}.{name}", owner, name, site.width)
        for i, site in enumerate(sites(backbone))
        for owner, name in ((site.block.attn, "proj"), (site.block.mlp, "fc2"))
    ]
    train_norms(backbone, parts)
    attach_bias(backbone, parts)
    for key, owner, name, width in ends:
        gain = parts.trained.add(key, torch.ones(width))
        setattr(owner, name, Gained(getattr(owner, name), gain))


fold = merge

"""(IA)^3 (Liu et al., NeurIPS 2022, section 3.3): three vectors a block scale what it computes.

One scales the keys, one the values, one the FFN's hidden activations. They start at one, so the
adapted model starts as the backbone, and they fold into the frozen layers around them.

A method outside the package, used by the dotted name of its module:

    PYTHONPATH=examples arc-sweep run examples/own_method.yaml
"""

from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.methods import Method
from arc_train.methods.folding import merge
from arc_train.structure import sites
from arc_train.trials import by_trial


class ScaledOutput(nn.Module):
    """A frozen qkv whose keys and values are scaled by `scale` [T, 2 D]."""

    def __init__(self, linear: nn.Linear, scale: nn.Parameter) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale

    def forward(self, h: Tensor) -> Tensor:
        """h [T*B, ..., D] -> queries, keys and values [T*B, ..., 3 D]."""
        out: Tensor = self.linear(h)
        rows = by_trial(out, self.scale)
        return (rows * self._factor()[:, None]).view_as(out)

    def folded(self) -> nn.Module:
        """The layer with its rows scaled."""
        factor = self._factor()[0]
        self.linear.weight = nn.Parameter(self.linear.weight * factor[:, None])
        if self.linear.bias is not None:
            self.linear.bias = nn.Parameter(self.linear.bias * factor)
        return self.linear

    def _factor(self) -> Tensor:
        width = self.scale.shape[1] // 2
        return torch.cat([torch.ones_like(self.scale[:, :width]), self.scale], dim=1)


class ScaledInput(nn.Module):
    """A frozen layer whose input is scaled by `scale` [T, H]."""

    def __init__(self, linear: nn.Linear, scale: nn.Parameter) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale

    def forward(self, h: Tensor) -> Tensor:
        """h [T*B, ..., H] -> [T*B, ..., D]."""
        out: Tensor = self.linear((by_trial(h, self.scale) * self.scale[:, None]).view_as(h))
        return out

    def folded(self) -> nn.Module:
        """The layer with its columns scaled."""
        self.linear.weight = nn.Parameter(self.linear.weight * self.scale[0])
        return self.linear


def attach(backbone: Any, parts: Adapting) -> None:
    """Scale keys, values and hidden activations of every block."""
    for i, site in enumerate(sites(backbone)):
        attn, mlp = site.block.attn, site.block.mlp
        keys_values = parts.trained.add(f"ia3.{i}.kv", torch.ones(2 * site.width))
        hidden = parts.trained.add(f"ia3.{i}.mlp", torch.ones(mlp.fc2.in_features))
        attn.qkv = ScaledOutput(attn.qkv, keys_values)
        mlp.fc2 = ScaledInput(mlp.fc2, hidden)


METHOD = Method(
    attach,
    merge,
    decays_vectors=False,  # decay would pull the scales to zero, not to one
    space={"lr": {"log": [1e-3, 1e-1]}, "weight_decay": [0, 1e-4]},
    first={"lr": 1e-2, "weight_decay": 0},
)

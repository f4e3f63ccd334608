"""MLP-k: the head becomes k hidden layers of the backbone's width and the linear classifier.

From the VPT code, but for its BatchNorm, with which a trial's result would depend on which images
share its batch. Everything trained lies above the pooled features: they are computed once.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.errors import NotFoldable
from arc_train.trials import by_trial


class Hidden(nn.Module):
    """Linear, ReLU, dropout: `weight` [T, D, D], `bias` [T, D]; Kaiming-normal over the outputs."""

    def __init__(self, parts: Adapting, name: str, width: int, dropout: float) -> None:
        super().__init__()
        std = math.sqrt(2 / width)
        self.weight = parts.trained.normal(f"{name}.weight", width, width, std=std)
        self.bias = parts.trained.zeros(f"{name}.bias", width)
        self.dropout = parts.dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Features [T*B, D] -> [T*B, D]."""
        rows = by_trial(features, self.weight)
        hidden = torch.baddbmm(self.bias[:, None], rows, self.weight.mT).relu()
        out: Tensor = self.dropout(hidden).view_as(features)
        return out


def attach(backbone: Any, parts: Adapting, layers: int = 4, dropout: float = 0.1) -> nn.Module:
    """k = `layers` hidden layers before the classifier."""
    width = backbone.num_features
    return nn.Sequential(
        *(Hidden(parts, f"mlp.layers.{i}", width, dropout) for i in range(int(layers)))
    )


def fold(backbone: nn.Module) -> None:
    """Hidden layers don't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("mlp puts hidden layers before the classifier: a plain timm model has none")

"""MLP-k: the head becomes k hidden layers of the backbone's width and the linear classifier.

From the VPT code, but for its BatchNorm, with which a trial's result would depend on which images
share its batch. Everything trained lies above the pooled features: they are computed once.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.dropout import SeededDropout
from arc_train.errors import NotFoldable


class HiddenLayers(nn.Module):
    """k times Linear, ReLU, dropout on features [B, D]; Kaiming-normal over the outputs."""

    def __init__(
        self, width: int, layers: int, dropout: float, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.dropout = SeededDropout(dropout)
        with torch.no_grad():
            for layer in self.layers:
                draws = torch.randn(width, width, generator=generator)
                layer.weight.copy_(draws * math.sqrt(2 / width))  # type: ignore[operator]
                layer.bias.zero_()  # type: ignore[operator]

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, D] -> [B, D]."""
        for i, layer in enumerate(self.layers):
            features = self.dropout(layer(features).relu(), i)
        return features


def attach(
    backbone: Any, generator: torch.Generator | None, layers: int = 4, dropout: float = 0.1
) -> dict[str, nn.Module]:
    """k = `layers` hidden layers before the classifier."""
    return {"mlp": HiddenLayers(backbone.num_features, int(layers), dropout, generator)}


def fold(model: Any) -> None:
    """Hidden layers don't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("mlp puts hidden layers before the classifier: a plain timm model has none")

"""k nearest neighbours on frozen features: each class's share of the k most similar images.

The memory M [N, D] holds the features of the training images, each of length 1. An image z is
compared with all by the cosine, and the k nearest vote, with weights that sum to 1:

    w = softmax(M z / |z| / 0.07, over the k largest; 0 elsewhere),   votes = Y^T w

with one-hot labels Y [N, K], which is the head's weight. As in DINOv2's evaluation (its eval/knn),
whose k of 10 to 200 are too many where a class has few images. Votes are no log-probabilities:
where accuracies are equal, the losses that decide are those of the votes as they are. Nothing is
drawn: all seeds give the same memory. Images are cropped from the middle, without augmentation.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.adapting import Adapting
from arc_train.errors import NotFoldable
from arc_train.trained import HEAD_BIAS, HEAD_MEMORY, HEAD_WEIGHT
from arc_train.trials import by_trial

TEMPERATURE = 0.07


class Neighbours(nn.Module):
    """The weights of the images in a memory [T, N, D], for T trials with a k each.

    width: N, what the head gets for each image.
    """

    k: Tensor

    def __init__(self, memory: nn.Parameter, k: int) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("k", torch.tensor([float(k)]))
        self.width = memory.shape[1]

    def forward(self, features: Tensor) -> Tensor:
        """Features [T*B, D] -> [T*B, N]."""
        memory = self.memory.to(torch.promote_types(self.memory.dtype, torch.float32))
        similarity = F.normalize(by_trial(features, memory), dim=-1) @ memory.mT
        nearest, places = similarity.sort(dim=-1, descending=True, stable=True)
        ranks = torch.arange(self.width, device=features.device)
        too_far = ranks >= self.k.view(-1, 1, 1)
        weights = (nearest / TEMPERATURE).masked_fill(too_far, -math.inf).softmax(dim=-1)
        return torch.zeros_like(weights).scatter(-1, places, weights).flatten(0, 1)


def attach(backbone: Any, parts: Adapting, k: int = 10) -> nn.Module:
    """Neighbours before the head; their memory is as large as the training set."""
    memory = parts.trained.zeros(HEAD_MEMORY, parts.images, backbone.num_features)
    return Neighbours(memory, k)


def solve(features: Tensor, labels: Tensor, classes: int, k: int = 10) -> dict[str, Tensor]:
    """The memory of features [N, D], and their labels [N] as the head, by their names."""
    return {
        HEAD_MEMORY: F.normalize(features.double(), dim=-1),
        HEAD_WEIGHT: F.one_hot(labels, classes).mT,
        HEAD_BIAS: torch.zeros(classes),
    }


def fold(backbone: nn.Module) -> None:
    """A memory doesn't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("knn compares with the training images: a plain timm model keeps none")

"""The frozen backbone that a worker's process keeps in memory from one pack to the next."""

import functools

import torch
from torch import nn

from arc_train import backbones
from arc_train.backbones import Backbone, Weights
from arc_train.precision import compute_type, set_precision

_held: dict[Backbone, nn.Module] = {}


def frozen(backbone: Backbone, device: torch.device) -> nn.Module:
    """The backbone, kept in memory between the packs of this process; one at a time."""
    if backbone not in _held:
        _held.clear()
        _held[backbone] = set_precision(backbones.build(backbone).to(device), compute_type(device))
    return _held[backbone]


@functools.lru_cache(maxsize=1)
def weights(backbone: Backbone) -> Weights:
    """What the backbone in memory was loaded from, read once."""
    return backbones.weights(backbone)

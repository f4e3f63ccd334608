"""Methods that add nothing and choose which of the model's own weights to train.

linear: the head only. full: everything.
"""

from typing import Any

import torch
from torch import nn


def attach_linear(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """Linear probing: the backbone stays as it is."""
    return {}


def attach_full(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """Full fine-tuning: every weight is trained, in a copy of its own."""
    for module in backbone.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.detach().clone()))
    return {}


def fold(model: Any) -> None:
    """Nothing to merge: the weights were trained in place."""

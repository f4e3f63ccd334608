"""Methods that add nothing and choose which of the model's own weights to train.

linear: the head only. full: everything. bias (BitFit): every parameter with "bias" in its name.
partial (Partial-1): the last block and the final norm.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from arc_train.structure import sites


def attach_linear(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """Linear probing: the backbone stays as it is."""
    return {}


def attach_full(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """Full fine-tuning: every weight is trained, in a copy of its own."""
    _train(backbone, lambda name: True)
    return {}


def attach_bias(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """BitFit as in the VPT code: all parameters with "bias" in their name, norms' included.

    In a Swin that takes in the tables of relative position biases; the published parameter count
    is matched only with them.
    """
    _train(backbone, lambda name: "bias" in name)
    return {}


def attach_partial(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """Partial-1: the last block and the norms after it."""
    last = sites(backbone)[-1].block
    inside = {id(parameter) for parameter in last.parameters()}
    own = {name for name, p in backbone.named_parameters() if id(p) in inside}
    _train(backbone, lambda name: name in own or name.split(".")[0] in ("norm", "fc_norm"))
    return {}


def fold(model: Any) -> None:
    """Nothing to merge: the weights were trained in place."""


def _train(backbone: nn.Module, chosen: Callable[[str], bool]) -> None:
    """Make the chosen parameters trainable, each in a copy of its own."""
    for path, module in backbone.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if chosen(f"{path}.{name}" if path else name):
                setattr(module, name, nn.Parameter(parameter.detach().clone()))

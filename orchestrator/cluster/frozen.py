"""The frozen backbone that a worker's process keeps in memory from one pack to the next."""

import torch
from torch import nn

from arc_train import backbones
from arc_train.backbones import Backbone, Weights
from arc_train.errors import InputError
from arc_train.precision import compute_type, set_precision

_held: dict[tuple[Backbone, str], tuple[nn.Module, Weights]] = {}


def frozen(backbone: Backbone, fingerprint: str, device: torch.device) -> tuple[nn.Module, Weights]:
    """The backbone and where it came from, kept between the packs of this process; one at a time.

    Raises:
        InputError: this node's weights aren't those of the driver, whose fingerprint is given.
    """
    key = (backbone, fingerprint)
    if key not in _held:
        _held.clear()
        model = backbones.build(backbone)
        if (here := backbones.fingerprint(backbone)) != fingerprint:
            raise InputError(
                f"backbone {backbone.name!r}: this node's weights differ from those of the driver "
                f"(fingerprint {here}, not {fingerprint})"
            )
        model = set_precision(model.to(device), compute_type(device))
        _held[key] = model, backbones.weights(backbone)
    return _held[key]

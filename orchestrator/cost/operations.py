"""How much arithmetic a pack is: operations of a backbone, counted on the meta device."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from arc_train.backbones import Backbone, input_size, outline
from arc_train.methods.counts import trained
from arc_train.structure import is_swin
from orchestrator.cost.work import Work
from orchestrator.spec import Spec
from orchestrator.store.result import Study


@dataclass(frozen=True)
class Size:
    """A backbone in numbers.

    side: of its images, in pixels. flop: of one image's way through it; a multiply-add is two.
    swin: whether its attention works in windows.
    """

    side: int
    width: int
    weights: int
    flop: int
    swin: bool


@cache
def size(backbone: Backbone) -> Size:
    """Count, on the meta device: nothing is computed.

    Raises:
        InputError: the model can't be made with these args.
    """
    model: Any = outline(backbone)
    side = input_size(model)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    weights = sum(weight.numel() for weight in model.parameters())
    return Size(side, model.num_features, weights, counter.get_total_flops(), is_swin(model))


def operations(spec: Spec, study: Study, pack: Work) -> float:
    """Floating-point operations of a pack; a multiply-add is two."""
    backbone = spec.backbone(study.backbone)
    learned = trained(backbone, study.method)
    # Backward through the activations costs as much as forward, and through the weights again.
    passes = 1 if not learned else 3 if learned > size(backbone).weights / 2 else 2
    return size(backbone).flop * (passes * pack.trained + pack.validated + pack.tested)

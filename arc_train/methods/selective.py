"""Methods that add nothing and choose which of the model's own weights to train.

linear: the head only. full: everything. partial (Partial-1): the last block and the norms after it.
Their weights differ from trial to trial, so that nothing is fused: trials run one by one.
(bias, which trains vectors only, is in bias.py.)
"""

from collections.abc import Callable

from torch import nn

from arc_train.adapting import Adapting
from arc_train.structure import sites


def attach_linear(backbone: nn.Module, parts: Adapting) -> None:
    """Linear probing: the backbone stays as it is."""


def attach_full(backbone: nn.Module, parts: Adapting) -> None:
    """Full fine-tuning: every weight is trained, in a copy of its own."""
    _train(backbone, parts, lambda name: True)


def attach_partial(backbone: nn.Module, parts: Adapting) -> None:
    """Partial-1: the last block and the norms after it."""
    last = sites(backbone)[-1].block
    inside = {id(parameter) for parameter in last.parameters()}
    own = {name for name, p in backbone.named_parameters() if id(p) in inside}
    _train(backbone, parts, lambda name: name in own or name.split(".")[0] in ("norm", "fc_norm"))


def fold(backbone: nn.Module) -> None:
    """Nothing to merge: the weights were trained in place."""


def _train(backbone: nn.Module, parts: Adapting, chosen: Callable[[str], bool]) -> None:
    for path, module in backbone.named_modules():
        for attribute, parameter in list(module.named_parameters(recurse=False)):
            name = f"{path}.{attribute}" if path else attribute
            if chosen(name):
                setattr(module, attribute, parts.trained.own(name, parameter))

"""The methods. To add one: a file with `attach` and `fold`, a line here, a space in spaces.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from arc_train.methods import adapter, arc, lora, mlp, prompts, repadapter, selective, ssf


@dataclass(frozen=True)
class Method:
    """How a backbone is adapted.

    attach: (backbone, generator, **hyperparameters) changes the frozen backbone in place and
        returns the modules that hold the method's parameters, by their name in the adapter format.
    fold: turns an `Adapted` model's backbone back into a plain timm model, in place, or raises
        NotFoldable.
    ranked: whether the method has a `rank`.
    unpadded: hyperparameters that change shapes in a way that zero padding would not undo; trials
        of a pack that differ in them are computed one group after the other.
    decays_vectors: whether weight decay acts on one-dimensional tensors too.
    """

    attach: Callable[..., Mapping[str, nn.Module]]
    fold: Callable[[Any], None]
    ranked: bool = False
    unpadded: tuple[str, ...] = ()
    decays_vectors: bool = True


METHODS: dict[str, Method] = {
    "linear": Method(selective.attach_linear, selective.fold),
    "full": Method(selective.attach_full, selective.fold),
    "partial": Method(selective.attach_partial, selective.fold),
    "bias": Method(selective.attach_bias, selective.fold),
    "mlp": Method(mlp.attach, mlp.fold),
    "adapter": Method(adapter.attach, adapter.fold, ranked=True),
    "adapter_houlsby": Method(adapter.attach_houlsby, adapter.fold, ranked=True),
    "vpt_shallow": Method(prompts.attach_shallow, prompts.fold, unpadded=("tokens",)),
    "vpt_deep": Method(prompts.attach_deep, prompts.fold, unpadded=("tokens",)),
    "lora": Method(lora.attach, lora.fold, ranked=True),
    "ssf": Method(ssf.attach, ssf.fold, decays_vectors=False),
    "repadapter": Method(repadapter.attach, repadapter.fold, ranked=True),
    "arc_att": Method(arc.attach_att, arc.fold, ranked=True),
    "arc": Method(arc.attach, arc.fold, ranked=True),
}


@cache
def default_spaces() -> dict[str, dict[str, Any]]:
    """The recommended search space of each method (spaces.yaml)."""
    spaces: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("spaces.yaml").read_text()
    )
    return spaces

"""The methods. To add one: a file with `attach` and `fold`, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import nn

from arc_train.methods import adapter, arc, bias, lora, mlp, prompts, repadapter, selective, ssf


@dataclass(frozen=True)
class Method:
    """How a backbone is adapted.

    attach: (backbone, parts, **hyperparameters) changes the frozen backbone in place, adds its
        tensors to `parts.trained`, and returns trained layers between pooled features and head,
        if it has any.
    fold: turns an adapted backbone back into a plain timm model, in place, or raises NotFoldable.
    trains: where the lowest trained tensor lies. What lies below the head or the last block never
        changes, so it is computed once where the images don't.
    in_place: whether it trains the backbone's own weights, which can't differ between the trials
        of a batch: they run one by one.
    ranked: whether the method has a `rank`.
    unpadded: hyperparameters that change shapes in a way that zero padding would not undo; trials
        of a pack that differ in them are computed one group after the other.
    decays_vectors: whether weight decay acts on one-dimensional tensors too.
    options: hyperparameters that choose a variant, with the values they may have. A sweep fixes
        them, since trials of a pack share the structure; left out, the first value holds.
    """

    attach: Callable[..., nn.Module | None]
    fold: Callable[[nn.Module], None]
    trains: Literal["head", "last block", "blocks"] = "blocks"
    in_place: bool = False
    ranked: bool = False
    unpadded: tuple[str, ...] = ()
    decays_vectors: bool = True
    options: Mapping[str, tuple[str | bool, ...]] = field(default_factory=dict)


METHODS: dict[str, Method] = {
    "linear": Method(selective.attach_linear, selective.fold, trains="head"),
    "full": Method(selective.attach_full, selective.fold, in_place=True),
    "partial": Method(selective.attach_partial, selective.fold, trains="last block", in_place=True),
    "bias": Method(bias.attach, bias.fold),
    "mlp": Method(mlp.attach, mlp.fold, trains="head"),
    "adapter": Method(
        adapter.attach, adapter.fold, ranked=True, options={"as_published": (False, True)}
    ),
    "adapter_houlsby": Method(adapter.attach_houlsby, adapter.fold, ranked=True),
    "vpt_shallow": Method(prompts.attach_shallow, prompts.fold, unpadded=("tokens",)),
    "vpt_deep": Method(prompts.attach_deep, prompts.fold, unpadded=("tokens",)),
    "lora": Method(lora.attach, lora.fold, ranked=True),
    "ssf": Method(ssf.attach, ssf.fold, decays_vectors=False),
    "repadapter": Method(repadapter.attach, repadapter.fold, ranked=True),
    "arc_att": Method(arc.attach_att, arc.fold, ranked=True),
    "arc": Method(arc.attach, arc.fold, ranked=True, options={"placement": ("norm", "residual")}),
}


@dataclass(frozen=True)
class Recommended:
    """What is searched for a method, in the form of a sweep file, and what is tried first."""

    space: Mapping[str, Any]
    first: Mapping[str, float]


def recommended(method: str) -> Recommended:
    """The method's recommendation (spaces.yaml)."""
    entries = ["any", "ranked", method] if METHODS[method].ranked else ["any", method]
    space: dict[str, Any] = {}
    first: dict[str, float] = {}
    for name in entries:
        entry = _spaces().get(name, {})
        space |= entry.get("space", {})
        first |= entry.get("first", {})
    return Recommended(space, first)


@cache
def _spaces() -> dict[str, dict[str, Any]]:
    spaces: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("spaces.yaml").read_text()
    )
    return spaces

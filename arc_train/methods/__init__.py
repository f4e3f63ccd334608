"""The methods. To add one: a file with `attach` and `fold`, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from arc_train.methods.deferred import (
    adapter,
    adapter_plus,
    adaptformer,
    arc,
    bias,
    convpass,
    difffit,
    dora,
    fact,
    knn,
    layernorm,
    lora,
    lora_xs,
    mlp,
    prompts,
    pvera,
    repadapter,
    ridge,
    rlrr,
    selective,
    ssf,
    vera,
)
from arc_train.methods.fused import TARGETS

if TYPE_CHECKING:
    from torch import Tensor, nn

# head: what lies above the pooled features. selective: weights that the backbone has. prompt:
# tokens beside the patches. adapter: layers with a non-linearity. reparameterisation: updates of
# weights. shared: the same by projections that blocks share or that are frozen. other: your own.
Family = Literal["head", "selective", "prompt", "adapter", "reparameterisation", "shared", "other"]


@dataclass(frozen=True)
class Method:
    """How a backbone is adapted.

    attach: (backbone, parts, **hyperparameters) changes the frozen backbone in place, adds its
        tensors to `parts.trained`, and returns layers between pooled features and head, if it
        has any; their `width` is that of what the head gets, where it isn't the features'.
    fold: turns an adapted backbone back into a plain timm model, in place, or raises NotFoldable.
    family: what kind of method it is, to sort tables by.
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
    space, first: what is searched and tried first, where spaces.yaml has no entry.
    solve: (features [N, D], labels [N], classes, **hyperparameters) -> tensors by name, of a method
        that has its head in closed form: nothing is trained, and its only epoch is the solution.
    """

    attach: "Callable[..., nn.Module | None]"
    fold: "Callable[[nn.Module], None]"
    family: Family = "other"
    trains: Literal["head", "last block", "blocks"] = "blocks"
    in_place: bool = False
    ranked: bool = False
    unpadded: tuple[str, ...] = ()
    decays_vectors: bool = True
    options: Mapping[str, tuple[str | bool, ...]] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)
    solve: "Callable[..., Mapping[str, Tensor]] | None" = None


BUILT_IN: dict[str, Method] = {
    "ridge": Method(ridge.attach, ridge.fold, "head", trains="head", solve=ridge.solve),
    "knn": Method(knn.attach, knn.fold, "head", trains="head", solve=knn.solve),
    "linear": Method(selective.attach_linear, selective.fold, "head", trains="head"),
    "mlp": Method(mlp.attach, mlp.fold, "head", trains="head"),
    "full": Method(selective.attach_full, selective.fold, "selective", in_place=True),
    "partial": Method(
        selective.attach_partial, selective.fold, "selective", trains="last block", in_place=True
    ),
    "bias": Method(bias.attach, bias.fold, "selective"),
    "layernorm": Method(layernorm.attach, layernorm.fold, "selective", decays_vectors=False),
    "difffit": Method(difffit.attach, difffit.fold, "selective", decays_vectors=False),
    "vpt_shallow": Method(prompts.attach_shallow, prompts.fold, "prompt", unpadded=("tokens",)),
    "vpt_deep": Method(prompts.attach_deep, prompts.fold, "prompt", unpadded=("tokens",)),
    "adapter": Method(
        adapter.attach,
        adapter.fold,
        "adapter",
        ranked=True,
        options={"as_published": (False, True)},
    ),
    "adapter_houlsby": Method(adapter.attach_houlsby, adapter.fold, "adapter", ranked=True),
    "adaptformer": Method(adaptformer.attach, adaptformer.fold, "adapter", ranked=True),
    "adapter_plus": Method(
        adapter_plus.attach, adapter_plus.fold, "adapter", ranked=True, decays_vectors=False
    ),
    "convpass": Method(
        convpass.attach,
        convpass.fold,
        "adapter",
        ranked=True,
        options={"conv_init": ("identity", "xavier"), "placement": ("both", "attn")},
    ),
    "lora": Method(lora.attach, lora.fold, "reparameterisation", ranked=True),
    "dora": Method(
        dora.attach, dora.fold, "reparameterisation", ranked=True, options={"target": TARGETS}
    ),
    "ssf": Method(ssf.attach, ssf.fold, "reparameterisation", decays_vectors=False),
    "repadapter": Method(repadapter.attach, repadapter.fold, "reparameterisation", ranked=True),
    "rlrr": Method(rlrr.attach, rlrr.fold, "reparameterisation", decays_vectors=False),
    "fact_tt": Method(fact.attach_tt, fact.fold, "shared", ranked=True),
    "fact_tk": Method(fact.attach_tk, fact.fold, "shared", ranked=True),
    "vera": Method(vera.attach, vera.fold, "shared", ranked=True, options={"target": TARGETS}),
    "pvera": Method(pvera.attach, pvera.fold, "shared", ranked=True, options={"target": TARGETS}),
    "lora_xs": Method(lora_xs.attach, lora_xs.fold, "shared", ranked=True),
    "arc_att": Method(arc.attach_att, arc.fold, "shared", ranked=True),
    "arc": Method(
        arc.attach, arc.fold, "shared", ranked=True, options={"placement": ("norm", "residual")}
    ),
}


class Methods(dict[str, Method]):
    """The built-in methods by name. A dotted name is that of a module of the user's (own.py)."""

    def __missing__(self, name: str) -> Method:
        """The method of a module on the Python path.

        Raises:
            KeyError: no dotted name.
            InputError: no such module, or one that isn't a method.
        """
        if "." not in name:
            raise KeyError(name)
        from arc_train.methods.own import load

        return load(name)


METHODS = Methods(BUILT_IN)


@dataclass(frozen=True)
class Recommended:
    """What is searched for a method, in the form of a sweep file, and what is tried first."""

    space: Mapping[str, Any]
    first: Mapping[str, float]


def recommended(method: str) -> Recommended:
    """The method's recommendation: its own, or that of spaces.yaml."""
    known = METHODS[method]
    every = [] if known.solve else ["any", "ranked"] if known.ranked else ["any"]
    entries = [_spaces().get(name, {}) for name in every]
    entries += [_spaces().get(method, {}), {"space": known.space, "first": known.first}]
    space: dict[str, Any] = {}
    first: dict[str, float] = {}
    for entry in entries:
        space |= entry.get("space", {})
        first |= entry.get("first", {})
    return Recommended(space, first)


@cache
def _spaces() -> dict[str, dict[str, Any]]:
    spaces: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("spaces.yaml").read_text()
    )
    return spaces

"""The methods. To add one: a file with `attach` and `fold`, a line here, a space in spaces.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from arc_train.methods import arc, selective


@dataclass(frozen=True)
class Method:
    """How a backbone is adapted.

    attach: (backbone, generator, **hyperparameters) changes the frozen backbone in place and
        returns the modules that hold the method's parameters, by their name in the adapter format.
    fold: turns an `Adapted` model's backbone back into a plain timm model, in place.
    ranked: whether the method has a `rank`.
    """

    attach: Callable[..., Mapping[str, nn.Module]]
    fold: Callable[[Any], None]
    ranked: bool = False


METHODS: dict[str, Method] = {
    "linear": Method(selective.attach_linear, selective.fold),
    "full": Method(selective.attach_full, selective.fold),
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

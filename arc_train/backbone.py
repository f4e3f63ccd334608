"""Which backbone: a timm model and its weights, as a value. arc_train.backbones builds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Weights:
    """The bytes that a backbone was loaded from.

    source: a file's name, `<repository>/<file>` of the hub, `random`, or `timm` for what timm
    fetched from elsewhere. revision: the hub's commit. sha256: of the file. None where there is
    none.
    """

    source: str
    revision: str | None
    sha256: str | None


@dataclass(frozen=True)
class Backbone:
    """Which model, with which weights.

    name: how results call it. model: timm's name. args: passed on to `timm.create_model`.
    weights: "timm" (the tag's own, from the hub or its cache), "random", or a file:
        as people publish them (checkpoints.py).
    mean, std: the statistics its inputs were normalised with; None = as timm states.
    """

    name: str
    model: str
    weights: str = "timm"
    args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


ARC_PICO = Backbone(
    name="arc_pico",
    model="vit_tiny_patch16_224",
    weights=str(Path(__file__).parent / "weights" / "arc_pico.safetensors"),
    args={"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4},
    mean=HALF[0],
    std=HALF[1],
)

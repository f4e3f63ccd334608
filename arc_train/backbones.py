"""Backbones: any timm model, from timm's weights, a checkpoint, or the embedded `arc_pico`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from arc_train import checkpoints
from arc_train.errors import InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Backbone:
    """Which model, with which weights.

    name: how results call it. model: timm's name. args: passed on to `timm.create_model`.
    weights: "timm" (the tag's own, from the hub or its cache), "random", or a file:
        .safetensors, .npz (Google's ViT format), .pt/.pth/.bin (read with weights_only=True).
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


def exists(model: str) -> bool:
    """Whether timm knows the model name (with or without a pretrained tag)."""
    return bool(timm.is_model(model))


def names() -> list[str]:
    """All model names that timm knows, with their pretrained tags, and ours."""
    return [ARC_PICO.name, *timm.list_models(), *timm.list_pretrained()]


def build(spec: Backbone) -> nn.Module:
    """The timm model with its weights, frozen, in eval mode, on the CPU, float32.

    Raises:
        InputError: the model can't be made with these args, or the checkpoint doesn't fit; the
            message names each tensor that doesn't.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # so that "random" weights are the same in every process
        model = _create(spec, pretrained=spec.weights == "timm")
    if spec.weights not in ("timm", "random"):
        try:
            checkpoints.load(model, Path(spec.weights))
        except InputError as error:
            raise InputError(f"backbone {spec.name!r}: {error}") from error
    frozen: nn.Module = model.float().requires_grad_(False).eval()
    return frozen


def outline(spec: Backbone) -> nn.Module:
    """The model's structure without weights, on the meta device: costs no memory.

    Raises:
        InputError: the model can't be made with these args.
    """
    with torch.device("meta"):
        return _create(spec, pretrained=False)


def _create(spec: Backbone, pretrained: bool) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(spec.model, pretrained=pretrained, **spec.args)
    except Exception as error:  # timm, hub and torch raise many kinds for bad names, args, network
        raise InputError(
            f"backbone {spec.name!r}: timm can't make {spec.model!r}"
            f"{f' with {dict(spec.args)}' if spec.args else ''}: {error}"
        ) from error
    return model


def fingerprint(spec: Backbone) -> str:
    """16 hex digits that change with the architecture or the weights' bytes.

    Raises:
        InputError: the weights file can't be read.
    """
    digest = hashlib.sha256(f"{spec.model}|{sorted(spec.args.items())}".encode())
    if spec.weights in ("timm", "random"):
        digest.update(spec.weights.encode())
    else:
        try:
            digest.update(Path(spec.weights).read_bytes())
        except OSError as error:
            raise InputError(
                f"backbone {spec.name!r}: can't read weights {spec.weights}: {error.strerror}"
            ) from error
    return digest.hexdigest()[:16]


def input_size(model: Any) -> int:
    """Side S of the square images [3, S, S] the model takes, in pixels."""
    patch_embed = getattr(model, "patch_embed", None)
    size = getattr(patch_embed, "img_size", None) or model.pretrained_cfg["input_size"][-2:]
    return int(size[0])


def statistics(
    spec: Backbone, model: Any, normalise: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel for pixels in 0..1.

    normalise: "backbone" = what the backbone was pre-trained with; "imagenet" = as the
        published ARC code does for every backbone.
    """
    if normalise == "imagenet":
        return IMAGENET
    config = model.pretrained_cfg
    return spec.mean or tuple(config["mean"]), spec.std or tuple(config["std"])

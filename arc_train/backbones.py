"""Backbones: any timm model, from timm's weights, a checkpoint, or the embedded `arc_pico`."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from arc_train import checkpoints
from arc_train.backbone import ARC_PICO, HALF, Backbone, Weights
from arc_train.errors import InputError

__all__ = [
    "ARC_PICO",
    "HALF",
    "Backbone",
    "Weights",
    "build",
    "exists",
    "fingerprint",
    "input_size",
    "names",
    "outline",
    "statistics",
]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LARGE = 256  # px; the published protocols train at 224


def exists(model: str) -> bool:
    """Whether timm knows the model name (with or without a pretrained tag)."""
    return bool(timm.is_model(model))


def names() -> list[str]:
    """All model names that timm knows, with their pretrained tags, and ours."""
    return [ARC_PICO.name, *timm.list_models(), *timm.list_pretrained()]


def build(spec: Backbone, say: Callable[[str], None] | None = None) -> nn.Module:
    """The timm model with its weights, frozen, in eval mode, on the CPU, float32.

    say: is told what of a checkpoint was left out or resized.

    Raises:
        InputError: the model can't be made with these args, or the checkpoint doesn't fit; the
            message names each tensor that doesn't.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # so that "random" weights are the same in every process
        model = _create(spec, pretrained=spec.weights == "timm")
    if spec.weights not in ("timm", "random"):
        try:
            loaded = checkpoints.load(model, Path(spec.weights))
        except InputError as error:
            raise InputError(f"backbone {spec.name!r}: {error}") from error
        if say:
            for note in loaded.notes():
                say(f"{spec.name}: {note}")
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


def weights(spec: Backbone) -> Weights:
    """The bytes of a backbone's weights; of the hub's once timm has fetched them.

    Raises:
        InputError: the weights file can't be read.
    """
    path = _file(spec)
    if path is None:
        return Weights(spec.weights, None, None)
    digest = hashlib.sha256()
    _read_into(digest, path, spec.name)
    if spec.weights != "timm":
        return Weights(path.name, None, digest.hexdigest())
    # The hub's cache: <repository>/snapshots/<revision>/<file>
    repository = timm.models.get_pretrained_cfg(spec.model).hf_hub_id
    return Weights(f"{repository}/{path.name}", path.parent.name, digest.hexdigest())


def fingerprint(spec: Backbone) -> str:
    """16 hex digits that change with the architecture or the weights' bytes.

    Raises:
        InputError: the weights file can't be read.
    """
    digest = hashlib.sha256(f"{spec.model}|{sorted(spec.args.items())}".encode())
    path = _file(spec)
    if path is None:
        digest.update(spec.weights.encode())
    else:
        _read_into(digest, path, spec.name)
    return digest.hexdigest()[:16]


def _file(spec: Backbone) -> Path | None:
    """The file that the weights lie in: the user's, or the hub's in its cache."""
    if spec.weights not in ("timm", "random"):
        return Path(spec.weights)
    config = timm.models.get_pretrained_cfg(spec.model)
    if spec.weights == "random" or config is None or not config.hf_hub_id:
        return None
    for name in ("model.safetensors", config.hf_hub_filename or "pytorch_model.bin"):
        found = try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _read_into(digest: Any, path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    except OSError as error:
        raise InputError(
            f"backbone {name!r}: can't read weights {path}: {error.strerror}"
        ) from error


def input_size(model: Any) -> int:
    """Side S of the square images [3, S, S] the model takes, in pixels."""
    patch_embed = getattr(model, "patch_embed", None)
    size = getattr(patch_embed, "img_size", None) or model.pretrained_cfg["input_size"][-2:]
    return int(size[0])


def remarks(spec: Backbone, model: Any) -> list[str]:
    """What a user should know of a backbone as it is asked for, a line each.

    model: the timm model, with weights or as an outline.
    """
    said = []
    own_file = spec.weights not in ("timm", "random") and spec.name != ARC_PICO.name
    if own_file and spec.mean is None:
        mean, std = statistics(spec, model, "backbone")
        said.append(
            f"{spec.name}: weights of your own under timm's name {spec.model}, whose inputs have "
            f"mean {_figures(mean)} and std {_figures(std)}; files of MAE, MoCo v3, DINO and DeiT "
            f"need {_figures(IMAGENET[0])} and {_figures(IMAGENET[1])}: give `mean:` and `std:`"
        )
    side = input_size(model)
    if side > LARGE and "img_size" not in spec.args:
        said.append(
            f"{spec.name}: takes images of {side} px, {(side / 224) ** 2:.1f} times the tokens of "
            "224 px; `args: {img_size: 224}` makes that much cheaper"
        )
    return said


def _figures(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


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

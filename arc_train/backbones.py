"""Backbones: any timm model, from timm's weights, a checkpoint, or the embedded `arc_pico`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from arc_train.errors import InputError
from arc_train.structure import sites

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
        _load(model, Path(spec.weights), spec.name)
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


def _load(model: Any, path: Path, name: str) -> None:
    if not path.is_file():
        raise InputError(f"backbone {name!r}: no weights file {path}")
    state: Any
    try:
        if path.suffix == ".npz":
            _check_npz(model, path)
            model.load_pretrained(str(path))
            return
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise InputError(
                f"backbone {name!r}: weights {path} has an unknown ending; "
                "known: .safetensors, .npz, .pt, .pth, .bin, .ckpt"
            )
    except InputError:
        raise
    except Exception as error:  # each format's reader has its own kinds of error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"backbone {name!r}: can't read weights {path}: {reason}") from error
    for wrapper in ("model", "state_dict", "model_state"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise InputError(f"backbone {name!r}: weights {path} is not a mapping of names to tensors")
    _load_state(model, state, f"backbone {name!r}: weights {path}")


def _load_state(model: Any, state: dict[str, Tensor], where: str) -> None:
    """Load all but the classifier, which adaptation replaces anyway."""
    classifier = model.pretrained_cfg.get("classifier") or "head"
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    own = model.state_dict()

    def of_head(key: str) -> bool:
        return any(key.startswith(head + ".") for head in heads)

    faults = [f"{key} is missing" for key in own if key not in state and not of_head(key)]
    faults += [f"{key} is not in the model" for key in state if key not in own and not of_head(key)]
    faults += [
        f"{key} is {list(state[key].shape)}, the model has {list(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and not of_head(key) and state[key].shape != tensor.shape
    ]
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise InputError(f"{where} doesn't fit the model: {'; '.join(faults[:8])}{more}")
    model.load_state_dict({k: v for k, v in state.items() if not of_head(k)}, strict=False)


def _check_npz(model: Any, path: Path) -> None:
    """Google's ViT archive against the model's width, depth and patch, before timm loads it."""
    blocks = [site.block for site in sites(model)]
    with np.load(path, allow_pickle=False) as archive:
        prefix = "opt/target/" if "opt/target/embedding/kernel" in archive else ""
        key = f"{prefix}embedding/kernel"
        if key not in archive:
            raise InputError(f"{path} is not Google's ViT format: no array {key}")
        kernel = archive[key].shape
        depth = len({k.split("/")[-3] for k in archive if "encoderblock_" in k and "Norm_0" in k})
        mlp_key = f"{prefix}Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"
        hidden = archive[mlp_key].shape[1] if mlp_key in archive else None
    weight = model.patch_embed.proj.weight
    expected = (*weight.shape[2:], weight.shape[1], weight.shape[0])
    faults = []
    if tuple(kernel) != tuple(expected):
        faults.append(f"embedding/kernel is {list(kernel)}, the model has {list(expected)}")
    if depth != len(blocks):
        faults.append(f"it has {depth} encoder blocks, the model has {len(blocks)}")
    if hidden is not None and hidden != blocks[0].mlp.fc1.out_features:
        faults.append(f"its FFN is {hidden} wide, the model's {blocks[0].mlp.fc1.out_features}")
    if faults:
        raise InputError(f"{path} doesn't fit the model: {'; '.join(faults)}")

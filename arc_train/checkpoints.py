"""Checkpoints as people have them: a file of weights -> the tensors of a timm model.

timm's own filter for the model's family does the reading: it resizes position embeddings, and knows
the names of DINO, DINOv2, DINOv3, MAE, CLIP, DeiT and Microsoft's Swin. What is done here is what
it leaves open: unpack what training code wraps around a state dict, find the encoder's prefix, and
say what was left out, resized, or doesn't fit. Nothing in a file is executed.
"""

import argparse
import contextlib
import importlib
import inspect
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from arc_train.errors import InputError
from arc_train.structure import sites

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".tar")
ENDINGS = (".safetensors", ".npz", *PICKLED)
# A tensor that each family's encoder has, in timm's names and in CLIP's; where it lies tells the
# prefix. CLIP keeps its `visual.`, by which timm's filter knows it.
LANDMARKS = ("patch_embed.proj.weight", "visual.conv1.weight")
# Of several encoders in one file: the one that the method's authors evaluate.
PREFERRED = ("model_ema", "state_dict_ema", "teacher", "base_encoder")
# First bytes of what is saved in place of weights.
IMPOSTORS = {
    b"version https://git-lfs": "a Git LFS pointer, not the weights: run `git lfs pull`",
    b"<!doctype": "a web page, not weights: download the file itself",
    b"<html": "a web page, not weights: download the file itself",
    b"<?xml": "an error page, not weights: download the file itself",
}


@dataclass(frozen=True)
class Loaded:
    """What became of a checkpoint's tensors: names left out, and those resized with both shapes."""

    dropped: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What a user should know, one line each."""
        said = []
        if self.dropped:
            said.append(f"left out, not part of the backbone: {_some(self.dropped)}")
        if self.resized:
            said.append(f"resized by timm: {_some(self.resized)}")
        return said


def load(model: Any, path: Path) -> Loaded:
    """Put a file's weights into a timm model, all but the classifier's.

    Raises:
        InputError: the file can't be read, isn't a checkpoint, holds numbers that aren't finite,
            or doesn't fit the model; names the tensors.
    """
    _check_first_bytes(path)
    if path.name.endswith(".npz"):
        return _load_npz(model, path)
    state = _encoder(_flat(_read(path)), path)
    _check_finite(state, path)
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    _check_patches(given, model, path)
    fitted = _filtered(model, dict(state), path)
    own = model.state_dict()
    heads = _classifier(model)
    kept = {name: tensor for name, tensor in fitted.items() if not name.startswith(heads)}
    dropped = [name for name in kept if name not in own and not _of_the_encoder(name, model)]
    kept = {name: tensor for name, tensor in kept.items() if name not in dropped}
    _check_fit(kept, {k: v for k, v in own.items() if not k.startswith(heads)}, path)
    model.load_state_dict(kept, strict=False)
    resized = [
        f"{name} {_shape(given[name])} -> {_shape(tensor.shape)}"
        for name, tensor in kept.items()
        if name in given and given[name] != tuple(tensor.shape)
    ]
    return Loaded(tuple(dropped), tuple(resized))


def _check_first_bytes(path: Path) -> None:
    """Recognise what is no checkpoint before a reader fails in its own words."""
    if not path.is_file():
        raise InputError(f"no weights file {path}")
    if not path.name.endswith(ENDINGS):
        raise InputError(f"{path} has an unknown ending; known: {', '.join(ENDINGS)}")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise InputError(f"{path} is empty: download or copy it again")
    for beginning, what in IMPOSTORS.items():
        if start.lstrip().lower().startswith(beginning):
            raise InputError(f"{path} is {what}")


def _read(path: Path) -> Any:
    """The content of a file; of pickles only what holds no code."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format's reader has its own kinds of error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"can't read weights {path}: {reason}") from error


def _flat(content: Any) -> dict[str, Tensor]:
    """The tensors of nested mappings under dotted names; an optimiser's, by number, are left."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
        if isinstance(value, Tensor):
            yield prefix, value
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                if isinstance(key, str):
                    yield from walk(f"{prefix}.{key}" if prefix else key, inner)

    return dict(walk("", content)) if isinstance(content, Mapping) else {}


def _encoder(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The encoder's tensors without the prefix that its landmark has."""
    if not tensors:
        raise InputError(f"weights {path} is not a mapping of names to tensors")
    prefixes = {
        name.removesuffix(landmark)
        for landmark in LANDMARKS
        for name in tensors
        if name.endswith(landmark) and name.removesuffix(landmark)[-1:] in ("", ".")
    }
    if not prefixes:  # another layout, which timm's filter may know, or that won't fit
        return tensors
    best = min(map(_preference, prefixes))
    chosen, *others = sorted(prefix for prefix in prefixes if _preference(prefix) == best)
    if others:
        raise InputError(
            f"weights {path} holds several encoders, under {', '.join([chosen, *others])}; "
            "save the one that you mean to a file of its own"
        )
    return {
        name.removeprefix(chosen): tensor
        for name, tensor in tensors.items()
        if name.startswith(chosen)
    }


def _preference(prefix: str) -> int:
    """A place in the order of choice; without a preferred name, the last."""
    parts = prefix.split(".")
    return next((i for i, part in enumerate(PREFERRED) if part in parts), len(PREFERRED))


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    wrong = [
        f"{name} ({int((~torch.isfinite(tensor)).sum())} of {tensor.numel()} values)"
        for name, tensor in state.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if wrong:
        raise InputError(
            f"weights {path} has numbers that aren't finite: {_some(wrong)}; "
            "train or download them again"
        )


def _check_patches(given: Mapping[str, tuple[int, ...]], model: Any, path: Path) -> None:
    """timm would resize patches, too; but a model of other patches is another model."""
    name = "patch_embed.proj.weight"
    expected = tuple(model.patch_embed.proj.weight.shape)
    if len(given.get(name, ())) == 4 and given[name][2:] != expected[2:]:
        raise InputError(
            f"weights {path} doesn't fit the model: {name} is {list(given[name])}, the model has "
            f"{list(expected)}; choose the model with these patches"
        )


def _filtered(model: Any, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state as timm's filter for the model's family hands it on, in the model's names."""
    family = importlib.import_module(type(model).__module__)
    convert = getattr(family, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    options = {}
    if "adapt_layer_scale" in inspect.signature(convert).parameters:
        options["adapt_layer_scale"] = True  # DeiT3's names; other ViTs have none of them
    surplus = [name for name in state if name not in model.state_dict()]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # one of the filters prints
            made: dict[str, Tensor] = convert(state, model, **options)
    except Exception as error:  # a filter fails in many ways on what it wasn't made for
        raise InputError(
            f"weights {path} doesn't fit the model: timm's filter for {type(model).__name__} "
            f"failed with {type(error).__name__}: {error}"
            f"{f'; not in the model: {_some(surplus)}' if surplus else ''}"
        ) from error
    return made


def _classifier(model: Any) -> tuple[str, ...]:
    """The beginnings of the classifier's names, which adaptation replaces anyway."""
    classifier = model.pretrained_cfg.get("classifier") or "head"
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple(f"{name.split('.')[0]}." for name in names)


def _of_the_encoder(name: str, model: Any) -> bool:
    """Whether a tensor takes part in the encoder's computation, so that it can't be left out.

    Of a part that this model does without, such as CLIP's first norm, timm keeps the attribute.
    """
    part = name.split(".")[0]
    return hasattr(model, part) or (part.endswith(("_token", "_tokens")) and part != "mask_token")


def _check_fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    missing = [name for name in own if name not in state]
    surplus = [name for name in state if name not in own]
    faults = [f"{name} is missing" for name in missing]
    if missing and surplus:
        faults.insert(0, f"it has for instance {surplus[0]}, the model expects {missing[0]}")
    faults += [f"{name} is not in the model" for name in surplus]
    faults += [
        f"{name} is {list(state[name].shape)}, the model has {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if faults:
        raise InputError(f"weights {path} doesn't fit the model: {_some(faults, 8, '; ')}")


def _load_npz(model: Any, path: Path) -> Loaded:
    """Google's ViT archive, read by timm."""
    try:
        before = _check_npz(model, path)
        model.load_pretrained(str(path))
    except InputError:
        raise
    except Exception as error:  # a torn or foreign archive
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"can't read weights {path}: {reason}") from error
    _check_finite(model.state_dict(), path)
    after = tuple(model.pos_embed.shape)
    changed = before is not None and before != after
    return Loaded(resized=(f"pos_embed {_shape(before)} -> {_shape(after)}",) if changed else ())


def _check_npz(model: Any, path: Path) -> tuple[int, ...] | None:
    """The archive against the model's width, depth and patch -> its position embedding's shape."""
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
        positions = f"{prefix}Transformer/posembed_input/pos_embedding"
        grid = archive[positions].shape if positions in archive else None
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
    return grid


def _shape(shape: Any) -> str:
    return "x".join(map(str, shape))


def _some(entries: list[str] | tuple[str, ...], most: int = 4, between: str = ", ") -> str:
    """The first entries, and how many more there are."""
    more = f"{between}and {len(entries) - most} more" if len(entries) > most else ""
    return between.join(entries[:most]) + more

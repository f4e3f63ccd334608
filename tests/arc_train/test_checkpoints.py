"""Checkpoints in the forms in which people publish them load as the plain file does."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train import InputError, checkpoints

VIT = (
    "vit_tiny_patch16_224",
    {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2},
)
State = dict[str, Tensor]


def make(name: str, seed: int = 0, **args: Any) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(name, **args).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some start at zero, where an error wouldn't show
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model


def features(model: Any, side: int = 32) -> Tensor:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out: Tensor = model.forward_head(model.forward_features(x), pre_logits=True)
    return out


def below(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


FORMS: dict[str, Callable[[State, State], Any]] = {
    "plain.pth": lambda s, _: s,
    "ddp.pth": lambda s, _: {"state_dict": below("module.", s)},
    "moco-v3.pth.tar": lambda s, other: {
        "epoch": 1,
        "arch": "vit",
        "state_dict": below("module.base_encoder.", s)
        | below("module.momentum_encoder.", other)
        | {"module.predictor.0.weight": torch.ones(3)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []},
    },
    "dino.pth": lambda s, other: {
        "teacher": below("backbone.", s) | {"head.mlp.0.weight": torch.ones(2)},
        "student": below("module.backbone.", other),
    },
    "dinov2-teacher.pth": lambda s, _: below("teacher.backbone.", s),
    "dinov2.pth": lambda s, _: s | {"mask_token": torch.zeros(1, 48)},
    "mae.pth": lambda s, _: {
        "model": s
        | {"mask_token": torch.zeros(1, 1, 9), "decoder_blocks.0.norm1.weight": s["norm.bias"]}
    },
    "lightning.ckpt": lambda s, _: {
        "state_dict": below("model.", s),
        "hyper_parameters": {"lr": 1},
    },
    "args.pth": lambda s, _: {"model": s, "args": argparse.Namespace(lr=0.1)},
    "model_best.pth.tar": lambda s, other: {"state_dict": other, "state_dict_ema": s, "epoch": 3},
    "headless.bin": lambda s, _: {k: v for k, v in s.items() if not k.startswith("head.")},
    "other-head.pt": lambda s, _: (
        s | {"head.weight": torch.ones(7, 48), "head.bias": torch.ones(7)}
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_published_forms_load_as_the_plain_file_does(tmp_path: Path, name: str) -> None:
    donor = make(VIT[0], **VIT[1])
    path = tmp_path / name
    torch.save(FORMS[name](donor.state_dict(), make(VIT[0], 5, **VIT[1]).state_dict()), path)
    model = make(VIT[0], seed=9, **VIT[1])
    assert not torch.equal(features(model), features(donor))
    loaded = checkpoints.load(model, path)
    assert torch.equal(features(model), features(donor))
    assert not loaded.resized
    said = " ".join(loaded.notes())
    assert ("decoder_blocks.0.norm1.weight" in said) == (name == "mae.pth")


def test_a_position_embedding_of_another_size_is_resized_and_said(tmp_path: Path) -> None:
    donor = make(VIT[0], **{**VIT[1], "img_size": 64})
    torch.save(donor.state_dict(), tmp_path / "big.pth")
    model = make(VIT[0], seed=9, **VIT[1])
    assert checkpoints.load(model, tmp_path / "big.pth").resized == (
        "pos_embed 1x65x48 -> 1x17x48",
    )
    big: Any = donor
    grid = big.pos_embed[:, 1:].view(1, 8, 8, -1).permute(0, 3, 1, 2)
    small = F.interpolate(grid, size=(4, 4), mode="bicubic", antialias=True)
    resized: Any = model
    expected = small.permute(0, 2, 3, 1).flatten(1, 2)
    assert (resized.pos_embed[:, 1:] - expected).abs().max() < 1e-6


def openai_clip(model: Any) -> State:
    """OpenAI's names of a CLIP image tower, from timm's model, among the text tower's."""
    state = {"visual.class_embedding": model.cls_token[0, 0], "logit_scale": torch.ones(())}
    for name, tensor in model.state_dict().items():
        if name.startswith(("head", "cls_token")):
            continue
        tensor = tensor[0] if name == "pos_embed" else tensor
        for ours, theirs in (
            ("patch_embed.proj", "conv1"),
            ("pos_embed", "positional_embedding"),
            ("blocks.", "transformer.resblocks."),
            ("norm_pre", "ln_pre"),
            ("norm1", "ln_1"),
            ("norm2", "ln_2"),
            ("attn.qkv.", "attn.in_proj_"),
            ("attn.proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            name = name.replace(ours, theirs)
        state["visual." + name.replace("norm.", "ln_post.")] = tensor
    return state | {"transformer.resblocks.0.ln_1.weight": torch.ones(5)}


def dinov2_registers(model: Any) -> State:
    """Meta's names: registers apart, the class token's position in the position embedding."""
    state: State = dict(model.state_dict())
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat(
        [torch.zeros_like(state["cls_token"]), state["pos_embed"]], dim=1
    )
    return state | {"mask_token": torch.zeros(1, 48)}


def deit3(model: Any) -> State:
    """The authors' names of layer scale."""
    return {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
        for name, tensor in model.state_dict().items()
    }


def microsoft_swin(model: Any) -> State:
    """Patches merge at a stage's end, buffers are kept, the classifier is `head`."""
    state: State = {}
    for name, tensor in model.state_dict().items():
        if ".downsample." in name:
            stage = int(name.split(".")[1])
            name = name.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
        state[name.replace("head.fc.", "head.")] = tensor
    buffers = {f"layers.0.blocks.1.{name}": torch.ones(4) for name in ("attn_mask",)}
    return state | buffers | {"layers.0.blocks.0.attn.relative_position_index": torch.ones(16, 16)}


def meta_dinov3(model: Any) -> State:
    """Meta's names: storage tokens, layer scale in a module, the periods of the rotation."""
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    state: State = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    extra = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}
    qkv = {f"blocks.{i}.attn.qkv.bias": torch.zeros(144) for i in range(2)}
    return state | extra | qkv


SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2}
SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 24,
    "depths": (2, 2),
    "num_heads": (2, 4),
}
FAMILIES: dict[str, tuple[str, dict[str, Any], Callable[[Any], State]]] = {
    "clip": ("vit_base_patch16_clip_224", SMALL, openai_clip),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", SMALL, dinov2_registers),
    "deit3": ("deit3_small_patch16_224", SMALL, deit3),
    "swin": ("swin_tiny_patch4_window7_224", SWIN, microsoft_swin),
    "dinov3": ("vit_small_patch16_dinov3", SMALL, meta_dinov3),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_in_their_authors_names_load(tmp_path: Path, family: str) -> None:
    name, args, authors = FAMILIES[family]
    donor = make(name, **args)
    torch.save({"model": authors(donor)}, tmp_path / "w.pth")
    model = make(name, seed=9, **args)
    checkpoints.load(model, tmp_path / "w.pth")
    assert (features(model) - features(donor)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<?xml version='1.0'?><Error/>", "an error page"),
    ],
)
@pytest.mark.parametrize("ending", checkpoints.ENDINGS)
def test_what_was_saved_in_place_of_weights_is_recognised(
    tmp_path: Path, ending: str, content: bytes, says: str
) -> None:
    path = tmp_path / f"w{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        checkpoints.load(make(VIT[0], **VIT[1]), path)


def test_what_does_not_fit_names_one_found_beside_one_expected(tmp_path: Path) -> None:
    state = make(VIT[0], **VIT[1]).state_dict()
    renamed = {k.replace("blocks.", "blocks.layer."): v for k, v in state.items()}
    deeper = make(VIT[0], **{**VIT[1], "depth": 3}).state_dict()
    for content, found, expected in (
        (renamed, "blocks.layer.0.norm1.weight", "blocks.0.norm1.weight"),
        (deeper, "blocks.2.norm1.weight is not in the model", ""),
    ):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(InputError) as caught:
            checkpoints.load(make(VIT[0], **VIT[1]), tmp_path / "w.pth")
        assert found in str(caught.value)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


def test_two_encoders_of_equal_rank_are_refused(tmp_path: Path) -> None:
    state = make(VIT[0], **VIT[1]).state_dict()
    torch.save(below("left.", state) | below("right.", state), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"several encoders, under left\., right\."):
        checkpoints.load(make(VIT[0], **VIT[1]), tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_tensor(tmp_path: Path, value: float) -> None:
    state = make(VIT[0], **VIT[1]).state_dict()
    state["blocks.1.mlp.fc1.bias"][3] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"blocks\.1\.mlp\.fc1\.bias \(1 of 192 values\)"):
        checkpoints.load(make(VIT[0], **VIT[1]), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("donor", "model", "says"),
    [
        ("vit_base_patch16_clip_224", VIT[0], "norm_pre.weight is not in the model"),
        (
            "vit_small_patch14_reg4_dinov2",
            "vit_small_patch14_dinov2",
            "not in the model: reg_token",
        ),
        ("deit_tiny_distilled_patch16_224", VIT[0], "dist_token is not in the model"),
        ("vit_base_patch16_siglip_224", "vit_base_patch16_siglip_gap_224", "attn_pool.latent"),
    ],
)
def test_what_acts_in_the_encoder_is_never_left_out(
    tmp_path: Path, donor: str, model: str, says: str
) -> None:
    torch.save(make(donor, **SMALL).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=says):
        checkpoints.load(make(model, **SMALL), tmp_path / "w.pth")

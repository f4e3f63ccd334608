"""Checkpoints load from every format, are checked tensor by tensor, and never execute anything."""

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from arc_train import InputError, backbones
from arc_train.backbones import ARC_PICO, Backbone

ARGS = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2}
TINY = Backbone("tiny", "vit_tiny_patch16_224", "random", ARGS)


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(3)
    made: torch.nn.Module = timm.create_model(TINY.model, num_classes=7, **ARGS).eval()
    return made


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        out: torch.Tensor = model.forward_features(x)  # type: ignore[operator]
        return out


def write_google_npz(model: torch.nn.Module, path: Path) -> None:
    """The layout of Google's ViT archives, from a timm model."""
    s = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    width, heads = s["norm.weight"].shape[0], 2
    arrays = {
        "embedding/kernel": s["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": s["patch_embed.proj.bias"],
        "cls": s["cls_token"],
        "Transformer/posembed_input/pos_embedding": s["pos_embed"],
        "Transformer/encoder_norm/scale": s["norm.weight"],
        "Transformer/encoder_norm/bias": s["norm.bias"],
        "head/kernel": s["head.weight"].T,
        "head/bias": s["head.bias"],
    }
    for i in range(2):
        t, b = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
        a = t + "MultiHeadDotProductAttention_1/"
        qkv = s[b + "attn.qkv.weight"].reshape(3, heads, width // heads, width)
        qkv_bias = s[b + "attn.qkv.bias"].reshape(3, heads, width // heads)
        for j, name in enumerate(("query", "key", "value")):
            arrays[f"{a}{name}/kernel"] = qkv[j].transpose(2, 0, 1)
            arrays[f"{a}{name}/bias"] = qkv_bias[j]
        projection = s[b + "attn.proj.weight"]
        arrays[a + "out/kernel"] = projection.T.reshape(heads, width // heads, width)
        arrays[a + "out/bias"] = s[b + "attn.proj.bias"]
        for j, name in enumerate(("norm1", "norm2")):
            arrays[f"{t}LayerNorm_{2 * j}/scale"] = s[f"{b}{name}.weight"]
            arrays[f"{t}LayerNorm_{2 * j}/bias"] = s[f"{b}{name}.bias"]
        for j, name in enumerate(("fc1", "fc2")):
            arrays[f"{t}MlpBlock_3/Dense_{j}/kernel"] = s[f"{b}mlp.{name}.weight"].T
            arrays[f"{t}MlpBlock_3/Dense_{j}/bias"] = s[f"{b}mlp.{name}.bias"]
    np.savez(path, **arrays)


def write(model: torch.nn.Module, path: Path) -> None:
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".npz":
        write_google_npz(model, path)
    else:
        torch.save({"model": state} if path.suffix == ".pth" else state, path)


@pytest.mark.parametrize("ending", ["safetensors", "pt", "pth", "npz"])
def test_every_format_gives_the_same_features(
    model: torch.nn.Module, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"weights.{ending}"
    write(model, path)
    built = backbones.build(replace(TINY, weights=str(path)))
    assert (logits(built) - logits(model)).abs().max() < 1e-5
    assert not any(p.requires_grad for p in built.parameters())
    assert not built.training


@pytest.mark.parametrize("ending", ["safetensors", "pt", "npz"])
@pytest.mark.parametrize("change", [{"embed_dim": 32}, {"depth": 3}, {"patch_size": 8}])
def test_a_checkpoint_of_another_shape_is_refused_by_name(
    model: torch.nn.Module, tmp_path: Path, ending: str, change: dict[str, int]
) -> None:
    path = tmp_path / f"weights.{ending}"
    write(model, path)
    with pytest.raises(InputError, match="doesn't fit") as caught:
        backbones.build(replace(TINY, weights=str(path), args={**ARGS, **change}))
    says = {"embed_dim": ["24", "32"], "depth": ["2", "3"], "patch_size": ["16", "8"]}
    if ending != "npz" and "depth" in change:
        says["depth"] = ["blocks.2.attn.qkv.weight is missing"]
    assert all(part in str(caught.value) for part in says[next(iter(change))])


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    for name in ("a.pt", "b.pth", "c.bin", "d.ckpt"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps({"model": Attack()}))
        with pytest.raises(InputError, match="can't read weights"):
            backbones.build(replace(TINY, weights=str(path)))
    torch.save(Attack(), tmp_path / "e.pt")
    np.savez(tmp_path / "f.npz", **{"embedding/kernel": np.array([Attack()], dtype=object)})  # type: ignore[arg-type]
    for name in ("e.pt", "f.npz"):
        with pytest.raises(InputError):
            backbones.build(replace(TINY, weights=str(tmp_path / name)))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("ending", ["safetensors", "npz", "pt", "xyz"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"weights.{ending}"
    for content in (b"", b"not a checkpoint", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"weights\.") as caught:
            backbones.build(replace(TINY, weights=str(path)))
        assert "'tiny'" in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match="no weights file"):
        backbones.build(replace(TINY, weights=str(path)))


def test_a_checkpoint_of_something_else_than_tensors_is_refused(tmp_path: Path) -> None:
    for i, content in enumerate(([1, 2], {"model": 3}, {"cls_token": "text"}, torch.ones(2))):
        path = tmp_path / f"{i}.pt"
        torch.save(content, path)
        with pytest.raises(InputError, match=r"\.pt"):
            backbones.build(replace(TINY, weights=str(path)))


def test_fingerprints_follow_the_weights_and_the_shape(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    write(model, path)
    spec = replace(TINY, weights=str(path))
    first = backbones.fingerprint(spec)
    moved = tmp_path / "moved.safetensors"
    path.rename(moved)
    assert backbones.fingerprint(replace(spec, name="other", weights=str(moved))) == first
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    write(model, moved)
    assert backbones.fingerprint(replace(spec, weights=str(moved))) != first
    assert backbones.fingerprint(replace(TINY, args={**ARGS, "depth": 3})) != (
        backbones.fingerprint(TINY)
    )


def test_the_embedded_backbone_is_small_and_alive() -> None:
    assert Path(ARC_PICO.weights).stat().st_size < 3_000_000
    model = backbones.build(ARC_PICO)
    assert backbones.input_size(model) == 32
    assert torch.isfinite(logits(model)).all()
    assert backbones.statistics(ARC_PICO, model, "backbone") == backbones.HALF
    assert backbones.statistics(ARC_PICO, model, "imagenet") == backbones.IMAGENET


def keep_in_hub_cache(model: torch.nn.Module, repository: str, cache: Path, revision: str) -> Path:
    """Lay weights as huggingface_hub lays what it has fetched."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    path = folder / "snapshots" / revision / "model.safetensors"
    path.parent.mkdir(parents=True)
    write(model, path)
    return path


def test_weights_of_the_hub_are_named_by_revision_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = "test_vit.r160_in1k"
    spec = Backbone(name, name)
    prints = []
    for seed, revision in ((1, "a" * 40), (2, "b" * 40)):
        torch.manual_seed(seed)
        published = timm.create_model(name)
        path = keep_in_hub_cache(published, f"timm/{name}", tmp_path, revision)
        built = backbones.build(spec)
        assert torch.equal(built.get_parameter("cls_token"), published.get_parameter("cls_token"))
        weights = backbones.weights(spec)
        assert weights.source == f"timm/{name}/model.safetensors"
        assert weights.revision == revision
        assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        prints.append(backbones.fingerprint(spec))
    assert prints[0] != prints[1]


def test_remarks_say_assumed_statistics_and_large_inputs(tmp_path: Path) -> None:
    path = tmp_path / "mae.pth"
    path.write_bytes(b"")
    bare = Backbone("mae", "vit_base_patch16_224", str(path))
    (remark,) = backbones.remarks(bare, backbones.outline(bare))
    assert "mean [0.5, 0.5, 0.5]" in remark
    assert "[0.485, 0.456, 0.406]" in remark
    given = replace(bare, mean=backbones.IMAGENET[0], std=backbones.IMAGENET[1])
    assert backbones.remarks(given, backbones.outline(given)) == []
    large = Backbone("dino", "vit_small_patch14_dinov2")
    (remark,) = backbones.remarks(large, backbones.outline(large))
    assert "518 px" in remark
    assert "args: {img_size: 224}" in remark
    smaller = replace(large, args={"img_size": 224})
    assert backbones.remarks(smaller, backbones.outline(smaller)) == []

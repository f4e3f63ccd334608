"""`adapt` trains exactly what a method says, starts where it says, and folds where it says."""

import copy
import itertools

import pytest
import timm
import torch
from safetensors.torch import load, save
from torch import nn

from arc_train import InputError, adapt, adapter_state, fold, load_adapter
from arc_train.adaptation import trainable
from arc_train.methods import METHODS

CLASSES = 5
FAMILIES = {
    "plain": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 16, "depth": 2}),
    "no class token, average pooling": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "depth": 2, "class_token": False, "global_pool": "avg"},
    ),
    "no qkv bias": ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2, "qkv_bias": False}),
    "layer scale, registers": (
        "vit_small_patch14_reg4_dinov2",
        {"img_size": 28, "depth": 2, "embed_dim": 48, "num_heads": 3},
    ),
}


def make(family: str = "plain") -> nn.Module:
    name, args = FAMILIES[family]
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **args).eval()
    return model


def images(model: nn.Module) -> torch.Tensor:
    side = model.patch_embed.img_size[0]  # type: ignore[union-attr, index]
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def shake(model: nn.Module) -> None:
    """Random values in everything that is trained."""
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))


def intended(method: str, model: nn.Module, rank: int) -> dict[str, tuple[int, ...]]:
    """Trained tensors as facts/methods.md lists them, written out without the code under test."""
    width, depth = model.num_features, len(model.blocks)  # type: ignore[arg-type]
    shapes = {"head.weight": (CLASSES, width), "head.bias": (CLASSES,)}
    if method == "full":
        heads = ("head.", "head_drop.")
        shapes |= {
            name: tuple(p.shape)
            for name, p in model.named_parameters()
            if not name.startswith(heads)
        }
    positions = {"arc": ("attn", "mlp"), "arc_att": ("attn",)}.get(method, ())
    for position in positions:
        shapes[f"arc.{position}.down"] = (width, rank)
        for i in range(depth):
            shapes[f"arc.{position}.coeff.{i}"] = (rank,)
            shapes[f"arc.{position}.bias.{i}"] = (width,)
    return shapes  # type: ignore[return-value]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_three_steps_change_what_is_intended_all_of_it_and_nothing_else(
    method: str, family: str
) -> None:
    backbone = make(family)
    hyper = {"rank": 4, "dropout": 0.1} if METHODS[method].ranked else {}
    model = adapt(backbone, method, CLASSES, **hyper)
    wanted = intended(method, backbone, 4)
    assert {n: tuple(t.shape) for n, t in adapter_state(model).items()} == wanted
    frozen = {
        id(tensor): tensor.clone()
        for tensor in itertools.chain(model.backbone.parameters(), model.backbone.buffers())
        if not tensor.requires_grad
    }
    outside = copy.deepcopy(backbone.state_dict())
    before = {n: t.clone() for n, t in adapter_state(model).items()}
    # Steps of a size of their own, however small a gradient is. (The head starts at zero, so the
    # adapters move from the second step on, and the shared projection from the third.)
    optimiser = torch.optim.Adam(list(trainable(model).values()), lr=0.01, eps=1e-30)
    model.train()
    for _ in range(3):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images(backbone)), torch.tensor([0, 1, 2]))
        loss.backward()
        optimiser.step()
    after = adapter_state(model)
    assert [n for n in wanted if torch.equal(before[n], after[n])] == []
    for tensor in itertools.chain(model.backbone.parameters(), model.backbone.buffers()):
        if not tensor.requires_grad:
            assert torch.equal(tensor, frozen[id(tensor)])
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, outside[name]), f"the given backbone's {name} changed"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_folded_model_is_plain_timm_with_the_same_logits(method: str, family: str) -> None:
    backbone = make(family)
    model = adapt(backbone, method, CLASSES, **({"rank": 4} if METHODS[method].ranked else {}))
    shake(model)
    model.eval()
    folded = fold(model)
    name, args = FAMILIES[family]
    if family == "no qkv bias" and METHODS[method].ranked:
        args = {**args, "qkv_bias": True}  # the re-composing's bias has to go somewhere
    plain = timm.create_model(name, num_classes=CLASSES, **args).eval()
    plain.load_state_dict(folded.state_dict())
    with torch.no_grad():
        expected = model(images(backbone))
        assert (folded(images(backbone)) - expected).abs().max() < 1e-5
        assert (plain(images(backbone)) - expected).abs().max() < 1e-5
        assert expected.abs().max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_goes_through_a_file_into_a_fresh_model(method: str) -> None:
    hyper = {"rank": 4} if METHODS[method].ranked else {}
    first, second = (adapt(make(), method, CLASSES, **hyper).eval() for _ in range(2))
    shake(first)
    load_adapter(second, load(save({k: v.contiguous() for k, v in adapter_state(first).items()})))
    x = images(first.backbone)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def test_an_adapter_that_does_not_fit_changes_nothing() -> None:
    model = adapt(make(), "arc", CLASSES, rank=4)
    state = {k: v + 1 for k, v in adapter_state(adapt(make(), "arc", CLASSES, rank=8)).items()}
    state["surplus"] = state.pop("arc.attn.bias.0")
    before = {k: v.clone() for k, v in adapter_state(model).items()}
    with pytest.raises(ValueError, match="doesn't fit") as caught:
        load_adapter(model, state)
    for part in ("missing arc.attn.bias.0", "unknown surplus", "arc.attn.down is [192, 8]"):
        assert part in str(caught.value)
    assert all(torch.equal(before[k], v) for k, v in adapter_state(model).items())


def test_arc_starts_as_released() -> None:
    """Facts 1.1: attention coefficients and biases zero, FFN coefficients Xavier over (1, r)."""
    state = adapter_state(adapt(make(), "arc", CLASSES, rank=50))
    bounds = {
        "arc.attn.down": (6 / (192 + 50)) ** 0.5,
        "arc.mlp.down": (6 / (192 + 50)) ** 0.5,
        "arc.mlp.coeff.0": (6 / 51) ** 0.5,
        "arc.mlp.coeff.1": (6 / 51) ** 0.5,
    }
    for name, tensor in state.items():
        bound = bounds.get(name, 0)
        assert 0.8 * bound <= tensor.abs().max() <= bound, name


@pytest.mark.parametrize(
    ("method", "count"), [("linear", 0), ("arc_att", 48_216), ("arc", 96_432), ("full", 85_798_656)]
)
def test_vit_b_counts_are_those_of_the_facts(method: str, count: int) -> None:
    with torch.device("meta"):
        backbone = timm.create_model("vit_base_patch16_224")
        hyper = {"rank": 50} if METHODS[method].ranked else {}
        state = adapter_state(adapt(backbone, method, 100, **hyper))
    counts = {name: tensor.numel() for name, tensor in state.items()}
    assert sum(counts.values()) - counts["head.weight"] - counts["head.bias"] == count
    assert counts["head.weight"] + counts["head.bias"] == 769 * 100


def test_what_cannot_be_adapted_is_refused_with_reason() -> None:
    with pytest.raises(InputError, match="no ViT blocks"):
        adapt(timm.create_model("resnet18"), "arc", CLASSES)
    with pytest.raises(KeyError, match="unknown method 'ark'"):
        adapt(make(), "ark", CLASSES)
    with pytest.raises(TypeError, match="rnk"):
        adapt(make(), "arc", CLASSES, rnk=3)

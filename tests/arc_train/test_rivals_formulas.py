"""Methods that peft lacks, against their papers' formulas, written out in float64.

A formula makes either the weights of a plain ViT or its blocks, from our own trained tensors; then
logits and gradients must agree.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from arc_train import adapt
from arc_train.adaptation import trainable

CLASSES, RANK, SCALE, WIDTH, GRID = 5, 3, 0.5, 24, (2, 3)
State = Mapping[str, Tensor]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """New tensors are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tiny() -> Any:
    torch.manual_seed(0)
    shape = {"img_size": (32, 48), "embed_dim": WIDTH, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **shape).eval()


def check(method: str, logits: Callable[[Any, State, Tensor], Tensor], **hyper: Any) -> None:
    """logits: (plain backbone, our trained tensors, images) -> logits by the formula."""
    backbone = tiny()
    model = adapt(backbone, method, CLASSES, **hyper).eval()
    own = trainable(model)
    with torch.no_grad():
        for parameter in own.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {name: p[0].detach().requires_grad_() for name, p in own.items()}
    images, labels = torch.randn(4, 3, 32, 48), torch.randint(CLASSES, (4,))
    ours, expected = model(images), logits(copy.deepcopy(backbone), state, images)
    assert (ours - expected).abs().max() < 1e-12
    found = torch.autograd.grad(F.cross_entropy(ours, labels), list(own.values()))
    wanted = torch.autograd.grad(F.cross_entropy(expected, labels), list(state.values()))
    for name, a, b in zip(own, found, wanted, strict=True):
        assert b.abs().max() > 1e-9, name
        assert (a[0] - b).abs().max() < 1e-10 * max(1.0, float(b.abs().max())), name


def with_weights(weights: Callable[[dict[str, Tensor], State], None]) -> Any:
    """weights: changes the plain model's tensors, in the dictionary, by ours."""

    def logits(backbone: nn.Module, state: State, images: Tensor) -> Tensor:
        plain = dict(backbone.state_dict())
        plain |= {name: state[name] for name in ("head.weight", "head.bias")}
        weights(plain, state)
        out: Tensor = functional_call(backbone, plain, (images,))
        return out

    return logits


def with_blocks(block: Callable[[Any, int, Tensor, State], Tensor]) -> Any:
    """block: (timm's block, its index, tokens [B, N, D], our tensors) -> tokens."""

    def logits(backbone: Any, state: State, images: Tensor) -> Tensor:
        x = backbone._pos_embed(backbone.patch_embed(images))
        for i, each in enumerate(backbone.blocks):
            x = block(each, i, x, state)
        return F.linear(backbone.norm(x)[:, 0], state["head.weight"], state["head.bias"])

    return logits


def layer(state: State, key: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])


def test_difffit() -> None:
    def weights(plain: dict[str, Tensor], state: State) -> None:
        plain |= {name: t for name, t in state.items() if not name.startswith("difffit")}
        for i in range(2):
            for name in ("attn.proj", "mlp.fc2"):
                gain = state[f"difffit.{i}.{name.partition('.')[2]}"]
                for what in ("weight", "bias"):
                    key = f"blocks.{i}.{name}.{what}"
                    plain[key] = (
                        (plain[key].mT * gain).mT if what == "weight" else plain[key] * gain
                    )

    check("difffit", with_weights(weights))


def test_adaptformer() -> None:
    def block(b: Any, i: int, x: Tensor, state: State) -> Tensor:
        x = x + b.attn(b.norm1(x))
        key = f"adaptformer.{i}"
        beside = layer(state, f"{key}.up", F.relu(layer(state, f"{key}.down", x)))
        out: Tensor = x + b.mlp(b.norm2(x)) + SCALE * beside
        return out

    check("adaptformer", with_blocks(block), rank=RANK, scale=SCALE)


def test_adapter_plus() -> None:
    def block(b: Any, i: int, x: Tensor, state: State) -> Tensor:
        x, key = b(x), f"adapter_plus.{i}"
        after = layer(state, f"{key}.up", F.gelu(layer(state, f"{key}.down", x)))
        return x + state[f"{key}.gain"] * after

    check("adapter_plus", with_blocks(block), rank=RANK)


@pytest.mark.parametrize("conv_init", ["identity", "xavier"])
def test_convpass(conv_init: str) -> None:
    def branch(h: Tensor, key: str, state: State) -> Tensor:
        z = layer(state, f"{key}.down", h)
        z = z * torch.sigmoid(1.702 * z)
        weight, bias = state[f"{key}.conv.weight"], state[f"{key}.conv.bias"]
        images = []
        for tokens in z:  # one image at a time: the class token is one of a single pixel
            alone = F.conv2d(tokens[0].view(1, RANK, 1, 1), weight, bias, padding=1)
            grid = tokens[1:].T.reshape(1, RANK, *GRID)
            patches = F.conv2d(grid, weight, bias, padding=1)
            images.append(torch.cat([alone.flatten(2), patches.flatten(2)], dim=2)[0].T)
        z = torch.stack(images)
        return SCALE * layer(state, f"{key}.up", z * torch.sigmoid(1.702 * z))

    def block(b: Any, i: int, x: Tensor, state: State) -> Tensor:
        h = b.norm1(x)
        x = x + b.attn(h) + branch(h, f"convpass.attn.{i}", state)
        h = b.norm2(x)
        out: Tensor = x + b.mlp(h) + branch(h, f"convpass.mlp.{i}", state)
        return out

    check("convpass", with_blocks(block), rank=RANK, scale=SCALE, conv_init=conv_init)


LAYERS = {"qkv": "attn", "proj": "attn", "fc1": "mlp", "fc2": "mlp"}


def factored(core: Callable[[State, int, str, int], Tensor], method: str) -> Any:
    """core: (our tensors, block, layer, which of its matrices) -> K of dW = s V K U."""

    def weights(plain: dict[str, Tensor], state: State) -> None:
        u, v = state[f"{method}.U"], state[f"{method}.V"]
        for i in range(2):
            for name, owner in LAYERS.items():
                key = f"blocks.{i}.{owner}.{name}.weight"
                count = max(plain[key].shape) // WIDTH
                matrices = [SCALE * v @ core(state, i, name, m) @ u for m in range(count)]
                plain[key] = plain[key] + torch.cat(matrices, dim=1 if name == "fc2" else 0)

    return with_weights(weights)


def test_fact_tt() -> None:
    def core(state: State, i: int, name: str, m: int) -> Tensor:
        return state[f"fact_tt.{i}.{name}.S"][m]

    check("fact_tt", factored(core, "fact_tt"), rank=RANK, scale=SCALE)


def test_fact_tk() -> None:
    def core(state: State, i: int, name: str, m: int) -> Tensor:
        mixture = state[f"fact_tk.{i}.{name}.P"][m]
        mixed = sum(state["fact_tk.C"][:, :, k] * mixture[k] for k in range(RANK))
        assert isinstance(mixed, Tensor)
        return mixed if name == "fc2" else mixed.T

    check("fact_tk", factored(core, "fact_tk"), rank=RANK, scale=SCALE)


def test_rlrr() -> None:
    def weights(plain: dict[str, Tensor], state: State) -> None:
        for i in range(2):
            for name, owner in LAYERS.items():
                left, c, f = (state[f"rlrr.{i}.{name}.{part}"] for part in "lcf")
                key = f"blocks.{i}.{owner}.{name}"
                each = plain[f"{key}.weight"].shape[0] // len(c)  # q, k and v have their own c
                factors = 1 + left * torch.cat([row.expand(each, -1) for row in c])
                plain[f"{key}.weight"] = plain[f"{key}.weight"] * factors
                plain[f"{key}.bias"] = plain[f"{key}.bias"] + f
        norms = [f"blocks.{i}.norm{k}" for i in range(2) for k in (1, 2)] + ["norm"]
        for key in [*norms, "patch_embed.proj"]:
            scale, shift = state[f"rlrr.{key}.scale"], state[f"rlrr.{key}.shift"]
            weight = plain[f"{key}.weight"]
            plain[f"{key}.weight"] = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
            plain[f"{key}.bias"] = plain[f"{key}.bias"] * scale + shift

    check("rlrr", with_weights(weights))

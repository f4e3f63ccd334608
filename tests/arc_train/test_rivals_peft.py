"""Methods against Hugging Face's peft, which shares no code with ours: logits and gradients."""

import copy
import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from arc_train import adapt, adapter_state
from arc_train.adaptation import Adapted, trainable

peft = pytest.importorskip("peft", reason="peft is not installed")

RANK, CLASSES = 3, 5
EVERY_LAYER = r"blocks\.\d+\.(attn|mlp)\.(qkv|proj|fc1|fc2)"
Pairs = list[tuple[Tensor, Tensor]]


class Separate(nn.Module):
    """timm's fused qkv as three layers, so that peft can adapt some of them."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        width = fused.in_features
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        for i, layer in enumerate((self.q, self.k, self.v)):
            rows = slice(i * width, (i + 1) * width)
            layer.load_state_dict({"weight": fused.weight[rows], "bias": fused.bias[rows]})

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    shape = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **shape).eval()


def shaken(method: str, backbone: nn.Module, **hyper: Any) -> Adapted:
    """Our model with random values in all that is trained, in evaluation mode."""
    model = adapt(backbone, method, CLASSES, **hyper).eval()
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def theirs(config: Any, backbone: nn.Module, ours: Adapted, separate: bool = False) -> Any:
    """The backbone under peft, with the head of ours."""
    inner: Any = copy.deepcopy(backbone)
    if separate:
        for block in inner.blocks:
            block.attn.qkv = Separate(block.attn.qkv)
    model = peft.get_peft_model(inner, config).eval()
    state = adapter_state(ours)
    model.base_model.model.get_classifier().load_state_dict(
        {"weight": state["head.weight"], "bias": state["head.bias"]}
    )
    return model


def layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, peft.tuners.tuners_utils.BaseTunerLayer)]


def backward(ours: nn.Module, theirs: nn.Module) -> None:
    """Logits must agree; gradients are left in the parameters."""
    images, labels = torch.randn(4, 3, 32, 32), torch.randint(CLASSES, (4,))
    logits = [model(images) for model in (ours, theirs)]
    for each in logits:
        nn.functional.cross_entropy(each, labels).backward()
    assert logits[0].abs().max() > 0.1
    assert (logits[0] - logits[1]).abs().max() < 1e-5


def same(pairs: Pairs) -> None:
    """Ours [1, ...] and theirs agree, and are not both nothing."""
    for own, expected in pairs:
        assert expected.abs().max() > 1e-7
        assert (own[0] - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("target", "parts"), [("qv", ["q", "v"]), ("qkv", ["qkv"])])
def test_vera(target: str, parts: list[str]) -> None:
    backbone = tiny()
    ours = shaken("vera", backbone, rank=RANK, target=target)
    config = peft.VeraConfig(r=RANK, target_modules=parts, vera_dropout=0.0)
    judge = theirs(config, backbone, ours, separate=target == "qv")
    with torch.no_grad():
        first = ours.backbone.blocks[0].attn.qkv  # type: ignore[index, union-attr]
        judge.base_model.vera_A["default"].copy_(first.down)
        judge.base_model.vera_B["default"].copy_(first.up.mT * math.sqrt(6 / RANK))
    places = [f"vera.{i}.{part}" for i in range(2) for part in parts]
    own, found = trainable(ours), layers(judge)[-len(places) :]
    with torch.no_grad():
        for place, layer in zip(places, found, strict=True):
            layer.vera_lambda_d["default"].copy_(own[f"{place}.d"][0])
            layer.vera_lambda_b["default"].copy_(own[f"{place}.b"][0])
    backward(ours, judge)
    for place, layer in zip(places, found, strict=True):
        same(
            [
                (own[f"{place}.d"].grad, layer.vera_lambda_d["default"].grad),
                (own[f"{place}.b"].grad, layer.vera_lambda_b["default"].grad),
            ]
        )


def test_vera_starts_as_peft_does() -> None:
    state = adapter_state(adapt(tiny(), "vera", CLASSES, rank=8))
    model = adapt(tiny(), "vera", CLASSES, rank=8)
    layer: Any = model.backbone.blocks[0].attn.qkv  # type: ignore[index, union-attr]
    assert (state["vera.0.q.d"] == 0.1).all()
    assert not state["vera.0.q.b"].any()
    assert 0.9 * math.sqrt(6 / 24) < layer.down.abs().max() <= math.sqrt(6 / 24)
    assert 0.9 < layer.up.abs().max() <= 1  # times sqrt(6 / r), which is in the gain


@pytest.mark.parametrize(("target", "parts"), [("qv", ["q", "v"]), ("qkv", ["qkv"])])
def test_pvera_without_its_noise(target: str, parts: list[str]) -> None:
    backbone = tiny()
    ours = shaken("pvera", backbone, rank=RANK, target=target)
    config = peft.PveraConfig(r=RANK, target_modules=parts, pvera_dropout=0.0)
    judge = theirs(config, backbone, ours, separate=target == "qv")
    with torch.no_grad():
        first = ours.backbone.blocks[0].attn.qkv  # type: ignore[index, union-attr]
        judge.base_model.pvera_A["default"].copy_(first.down)
        judge.base_model.pvera_B["default"].copy_(first.up.mT * math.sqrt(6 / RANK))
    places = [f"pvera.{i}.{part}" for i in range(2) for part in parts]
    own, found = trainable(ours), layers(judge)[-len(places) :]
    with torch.no_grad():
        for place, layer in zip(places, found, strict=True):
            layer.pvera_lambda_d["default"].copy_(own[f"{place}.d"].flatten())
            layer.pvera_lambda_b["default"].copy_(own[f"{place}.b"][0])
    backward(ours, judge)
    for place, layer in zip(places, found, strict=True):
        d, b = (getattr(layer, f"pvera_lambda_{name}")["default"].grad for name in "db")
        same([(own[f"{place}.d"].grad.flatten(1), d), (own[f"{place}.b"].grad, b)])


@pytest.mark.parametrize(("target", "parts"), [("qv", ["q", "v"]), ("qkv", ["qkv"])])
def test_dora(target: str, parts: list[str]) -> None:
    backbone = tiny()
    ours = shaken("dora", backbone, rank=RANK, scale=0.5, target=target)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=0.5 * RANK, target_modules=parts, lora_dropout=0.0, use_dora=True
    )
    judge = theirs(config, backbone, ours, separate=target == "qv")
    places = [f"dora.{i}.{part}" for i in range(2) for part in parts]
    own, found = trainable(ours), layers(judge)
    found = [layer for layer in found if hasattr(layer, "lora_A") and layer.lora_A][-len(places) :]
    with torch.no_grad():
        for place, layer in zip(places, found, strict=True):
            layer.lora_A["default"].weight.copy_(own[f"{place}.A"][0])
            layer.lora_B["default"].weight.copy_(own[f"{place}.B"][0])
            magnitude = layer.lora_magnitude_vector["default"].weight
            magnitude.copy_(layer.base_layer.weight.norm(dim=1) + own[f"{place}.magnitude"][0])
    backward(ours, judge)
    for place, layer in zip(places, found, strict=True):
        magnitude = layer.lora_magnitude_vector["default"].weight
        same(
            [
                (own[f"{place}.A"].grad, layer.lora_A["default"].weight.grad),
                (own[f"{place}.B"].grad, layer.lora_B["default"].weight.grad),
                (own[f"{place}.magnitude"].grad, magnitude.grad),
            ]
        )


def test_lora_xs_is_peft_lora_between_singular_vectors() -> None:
    backbone = tiny()
    ours = shaken("lora_xs", backbone, rank=RANK, scale=0.5)
    config = peft.LoraConfig(r=RANK, lora_alpha=0.5 * RANK, target_modules=EVERY_LAYER)
    judge, own = theirs(config, backbone, ours), trainable(ours)
    names = [f"lora_xs.{i}.{name}.R" for i in range(2) for name in ("qkv", "proj", "fc1", "fc2")]
    factors = []
    for name, layer in zip(names, layers(judge)[-len(names) :], strict=True):
        u, s, v = torch.linalg.svd(layer.base_layer.weight.detach().double(), full_matrices=False)
        signs = u.gather(0, u.abs().argmax(dim=0)[None]).sign()
        up, down = (u * signs)[:, :RANK].float(), (signs.mT * s[:, None] * v)[:RANK].float()
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(own[name][0] @ down)
            layer.lora_B["default"].weight.copy_(up)
        factors.append((name, layer.lora_A["default"].weight, down))
    backward(ours, judge)
    for name, weight, down in factors:
        assert isinstance(weight.grad, Tensor)
        same([(own[name].grad, weight.grad @ down.mT)])  # type: ignore[list-item]


def test_layernorm() -> None:
    backbone = tiny()
    ours = shaken("layernorm", backbone)
    config = peft.LNTuningConfig(target_modules=r"(blocks\.\d+\.norm[12]|norm)")
    judge, own = theirs(config, backbone, ours), trainable(ours)
    names = [f"blocks.{i}.norm{k}" for i in range(2) for k in (1, 2)] + ["norm"]
    norms = dict(zip(names, layers(judge)[-len(names) :], strict=True))
    for name, layer in norms.items():
        norm = layer.ln_tuning_layers["default"]
        norm.load_state_dict({k: own[f"{name}.{k}"][0].detach() for k in ("weight", "bias")})
    backward(ours, judge)
    for name, layer in norms.items():
        norm = layer.ln_tuning_layers["default"]
        same([(own[f"{name}.{k}"].grad, getattr(norm, k).grad) for k in ("weight", "bias")])  # type: ignore[misc]

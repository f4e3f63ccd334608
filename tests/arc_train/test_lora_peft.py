"""LoRA against Hugging Face's peft, an implementation that shares no code with ours."""

import copy

import pytest
import timm
import torch
from torch import nn

from arc_train import adapt, adapter_state
from arc_train.adaptation import trainable

peft = pytest.importorskip("peft", reason="peft is not installed")

RANK, SCALE, CLASSES = 3, 0.5, 5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 32, "window_size": 4, "embed_dim": 12, "depths": (2, 2)}
            | {"num_heads": (2, 4)},
        ),
    ],
)
def test_logits_and_gradients_are_those_of_peft(name: str, arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=CLASSES, drop_path_rate=0.0, **arguments)
    ours = adapt(backbone, "lora", CLASSES, rank=RANK, scale=SCALE)
    with torch.no_grad():
        for parameter in trainable(ours).values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs, layers = _peft(backbone, ours)

    images, labels = torch.randn(4, 3, 32, 32), torch.randint(CLASSES, (4,))
    logits = []
    for model in (ours.eval(), theirs.eval()):
        logits.append(model(images))
        nn.functional.cross_entropy(logits[-1], labels).backward()
    assert (logits[0] - logits[1]).abs().max() < 1e-5

    for i, layer in enumerate(layers):
        down = layer.lora_A["default"].weight.grad
        up = layer.lora_B["default"].weight.grad
        width = down.shape[1]
        own = {n: p.grad for n, p in trainable(ours).items() if n.startswith(f"lora.{i}.")}
        expected = {
            f"lora.{i}.q.A": down[:RANK],
            f"lora.{i}.v.A": down[RANK:],
            f"lora.{i}.q.B": up[:width, :RANK],
            f"lora.{i}.v.B": up[2 * width :, RANK:],
        }
        for key, gradient in expected.items():
            assert gradient.abs().max() > 1e-6
            assert (own[key] - gradient).abs().max() < 1e-6


def _peft(backbone: nn.Module, ours: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The same model by peft: on the fused qkv, rank 2r with q's and v's factors in blocks."""
    config = peft.LoraConfig(
        r=2 * RANK, lora_alpha=2 * RANK * SCALE, target_modules=["qkv"], lora_dropout=0.0
    )
    model = peft.get_peft_model(copy.deepcopy(backbone), config)
    layers = [m for m in model.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    state = adapter_state(ours)
    with torch.no_grad():
        model.base_model.model.get_classifier().weight.copy_(state["head.weight"])
        model.base_model.model.get_classifier().bias.copy_(state["head.bias"])
        for i, layer in enumerate(layers):
            key = f"lora.{i}"
            width = state[f"{key}.q.A"].shape[1]
            layer.lora_A["default"].weight.copy_(
                torch.cat([state[f"{key}.q.A"], state[f"{key}.v.A"]])
            )
            up = layer.lora_B["default"].weight
            up.zero_()
            up[:width, :RANK] = state[f"{key}.q.B"]
            up[2 * width :, RANK:] = state[f"{key}.v.B"]
    return model, layers

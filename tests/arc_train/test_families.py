"""Backbones that docs/models.md lists: small ones of the real classes adapt, train and fold."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train import InputError, NotFoldable, adapt, fold
from arc_train.adaptation import trainable

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 24}
SWIN |= {"depths": (2, 2), "num_heads": (2, 4)}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit_base_patch16_224.augreg_in21k": SMALL,
    "vit_base_patch16_224.mae": {**SMALL, "global_pool": "avg"},
    "deit_tiny_patch16_224": SMALL,
    "deit3_small_patch16_224": SMALL,
    "vit_base_patch16_clip_224.openai": SMALL,
    "vit_base_patch16_siglip_224.v2_webli": SMALL,
    "vit_small_patch14_dinov2": SMALL,
    "vit_small_patch14_reg4_dinov2": SMALL,
    "vit_small_patch16_dinov3": SMALL,
    "vit_small_patch16_dinov3_qkvb": SMALL,
    "swin_tiny_patch4_window7_224": SWIN,
}
# What can't be: a bias that lies in no layer is not trained, and one that the family lacks in its
# qkv takes no adapter's constant.
REFUSED = {
    ("vit_base_patch16_siglip_224.v2_webli", "bias"),
    ("vit_small_patch16_dinov3_qkvb", "bias"),
}
LR = {"vpt_deep": 0.1, "adapter": 0.03}
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def make(name: str) -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model(name, **FAMILIES[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # layer scale starts so small that it hides faults
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def train(model: nn.Module, lr: float, steps: int = 30) -> list[float]:
    model.train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=lr)  # type: ignore[arg-type]
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(IMAGES), LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


@pytest.mark.parametrize("method", ["arc", "lora", "vpt_deep", "adapter", "bias", "partial"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_adapts_trains_and_folds(name: str, method: str) -> None:
    backbone = make(name)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    if method == "bias" and "qkvb" in name:  # whose biases lie in no layer
        with pytest.raises(InputError, match="bias can't train"):
            adapt(backbone, method, 3)
        return
    model = adapt(backbone, method, 3)
    losses = train(model, LR.get(method, 0.01))
    assert min(losses) < 0.95 * losses[0]
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())
    grads = [p.grad for p in trainable(model).values()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
    no_bias = method == "arc" and "dinov3" in name  # in its qkv, to take the adapter's constant
    if method in ("vpt_deep", "adapter") or no_bias:
        with pytest.raises(NotFoldable):
            fold(model)
        return
    plain = fold(model)
    with torch.no_grad():
        assert (plain(IMAGES) - model(IMAGES)).abs().max() < 1e-4
    again = timm.create_model(name, **FAMILIES[name], num_classes=3)
    again.load_state_dict(plain.state_dict())


def with_prompts(model: Any, prompts: Tensor) -> Tensor:
    """DINOv3's features with prompts before the first block, told to its attentions as prefix."""
    prefix, more = model.num_prefix_tokens, prompts.shape[1]
    x, rope = model._pos_embed(model.patch_embed(IMAGES))
    own = prompts.expand(len(x), -1, -1)
    x = model.norm_pre(torch.cat([x[:, :prefix], own, x[:, prefix:]], dim=1))
    for block in model.blocks:
        block.attn.num_prefix_tokens = prefix + more
        x = block(x, rope=rope)
    tokens = model.norm(torch.cat([x[:, :prefix], x[:, prefix + more :]], dim=1))
    out: Tensor = model.forward_head(tokens, pre_logits=True)
    return out


def test_prompts_are_no_positions_of_a_rotary_embedding() -> None:
    backbone = make("vit_small_patch16_dinov3")
    model = adapt(backbone, "vpt_shallow", 3, tokens=5)
    prompts = trainable(model)["prompt.0"]
    with torch.no_grad():
        prompts.copy_(torch.randn(prompts.shape))
        assert (model.features(IMAGES) - with_prompts(backbone, prompts)).abs().max() < 1e-5

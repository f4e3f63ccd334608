"""What a method needs to know of a backbone's structure: its blocks, in execution order."""

from dataclasses import dataclass
from typing import Any

from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Attention, Block

from arc_train.errors import InputError


@dataclass(frozen=True)
class Site:
    """One transformer block: `attn.qkv`, `attn.proj`, `mlp.fc1`, `mlp.fc2`, norms before both.

    stage: 0 for a ViT; the stage of a Swin, whose width D doubles from one to the next.
    width: D, of the block's tokens.
    """

    block: Any
    stage: int
    width: int


def sites(model: Any) -> list[Site]:
    """The blocks of a ViT or Swin, in execution order.

    Raises:
        InputError: another family, or blocks that compute with their weights in other ways (a
            wrapped layer would be bypassed).
    """
    if hasattr(model, "blocks"):
        found = [(0, block) for block in model.blocks]
    else:
        found = [
            (stage, block)
            for stage, layer in enumerate(getattr(model, "layers", []))
            for block in getattr(layer, "blocks", [])
        ]
    if not found or not all(_known(block) for _, block in found):
        raise InputError(
            f"{type(model).__name__} has no blocks that this method can adapt; "
            "choose a timm vit_* (plain pre-norm) or swin_* model"
        )
    return [Site(block, stage, block.norm1.weight.shape[0]) for stage, block in found]


def is_swin(model: Any) -> bool:
    """Whether the tokens form a grid [B, H, W, D] in windows, as in Swin."""
    return not hasattr(model, "blocks")


def _known(block: Any) -> bool:
    return (
        isinstance(block, (Block, SwinTransformerBlock))
        and isinstance(block.attn, (Attention, WindowAttention))
        and hasattr(block.mlp, "fc1")
        and hasattr(block.mlp, "fc2")
    )

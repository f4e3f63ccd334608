"""What a method needs to know of a backbone's structure: its blocks, in execution order.

Three families of timm: ViT, Swin, and Eva as far as DINOv3 uses it (fused qkv, plain FFN, one
rotary position embedding for all blocks).
"""

from dataclasses import dataclass
from typing import Any

from timm.models.eva import EvaAttention, EvaBlock
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

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
            "choose a timm vit_* (plain pre-norm), vit_*_dinov3 or swin_* model"
        )
    return [Site(block, stage, block.norm1.weight.shape[0]) for stage, block in found]


def blocks(model: Any) -> list[nn.Module]:
    """The blocks of a ViT or Swin in execution order, adapted or not."""
    if hasattr(model, "blocks"):
        return list(model.blocks)
    return [block for layer in model.layers for block in layer.blocks]


def is_swin(model: Any) -> bool:
    """Whether the tokens form a grid [B, H, W, D] in windows, as in Swin."""
    return not hasattr(model, "blocks")


def call_layers(model: Any) -> None:
    """Have every block call its layers, in place, so that none of them can be bypassed.

    An Eva attention with biases may compute with its qkv's weight; it can also call the layer and
    add the biases after it, which is the same.
    """
    for module in model.modules():
        if isinstance(module, EvaAttention):
            module.qkv_bias_separate = True


def entrances(model: Any) -> list[nn.Module]:
    """The modules whose output starts the residual stream, the first block's first of all.

    A Swin's stream starts anew wherever patches merge. Other families have none.
    """
    if hasattr(model, "blocks"):
        return [model.norm_pre] if hasattr(model, "norm_pre") else []
    if not hasattr(model, "layers") or not hasattr(model, "patch_embed"):
        return []
    merging = [getattr(layer, "downsample", None) for layer in model.layers]
    return [model.patch_embed, *(m for m in merging if hasattr(m, "reduction"))]


def before_last_block(model: Any, images: Tensor) -> Tensor:
    """Images [B, 3, S, S] -> the tokens [B, ..., D] that enter the last block."""
    if is_swin(model):
        x = model.patch_embed(images)
        for layer in model.layers[:-1]:
            x = layer(x)
        last = model.layers[-1]
        x = last.downsample(x)
        rest = last.blocks[:-1]
    else:
        x = model._pos_embed(model.patch_embed(images))
        x = model.norm_pre(x[0] if _rotated(model) else model.patch_drop(x))
        rest = model.blocks[:-1]
    for block in rest:
        x = block(x, **_rotation(model))
    tokens: Tensor = x
    return tokens


def from_last_block(model: Any, tokens: Tensor) -> Tensor:
    """Tokens [B, ..., D] that enter the last block -> the model's final tokens."""
    out: Tensor = model.norm(blocks(model)[-1](tokens, **_rotation(model)))
    return out


def _rotated(model: Any) -> bool:
    return getattr(model, "rope", None) is not None


def _rotation(model: Any) -> dict[str, Tensor]:
    """What the blocks take beside tokens: a rotary position embedding where the model has one."""
    if not _rotated(model):
        return {}
    return {"rope": model.rope.get_embed(shape=model.patch_embed.grid_size)}


def replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Set the module at a dotted path."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def _known(block: Any) -> bool:
    if isinstance(block, EvaBlock) and getattr(block.attn, "qkv", None) is None:
        return False
    return (
        isinstance(block, (Block, SwinTransformerBlock, EvaBlock))
        and isinstance(block.attn, (Attention, WindowAttention, EvaAttention))
        and hasattr(block.mlp, "fc1")
        and hasattr(block.mlp, "fc2")
    )

"""What AdaptFormer, Adapter+ and Convpass share: a bottleneck, and where it meets a block."""

from collections.abc import Callable
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from arc_train.methods.adapter import Linear
from arc_train.structure import Site, replace, sites
from arc_train.trials import by_trial


class Bottleneck(nn.Module):
    """`down` D -> r, what acts on the r values [T, rows, r], `up` r -> D, times `scale` [T]."""

    scale: Tensor

    def __init__(self, down: Linear, inner: nn.Module, up: Linear, scale: float = 1.0) -> None:
        super().__init__()
        self.down, self.inner, self.up = down, inner, up
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., D] -> the same shape."""
        rows = by_trial(x, self.down.weight)
        scale = self.scale[:, None, None].to(rows.dtype)
        z = self.inner(torch.baddbmm(self.down.bias[:, None], rows, self.down.weight.mT))
        out = torch.baddbmm(self.up.bias[:, None] * scale, z * scale, self.up.weight.mT)
        return out.view_as(x)


class Branched(nn.Module):
    """A frozen block with a branch beside its attention, its FFN, or both (None: no branch).

    normed: whether a branch reads what the sublayer reads, or the residual stream before the norm.
    """

    def __init__(
        self, block: Any, attn: nn.Module | None, mlp: nn.Module | None, normed: bool
    ) -> None:
        super().__init__()
        self.block = block
        self.attn, self.mlp = attn, mlp
        self.normed = normed

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """x [T*B, ..., D] -> the same shape; options: what the block's attention takes."""
        block, swin = self.block, isinstance(self.block, SwinTransformerBlock)
        h = block.norm1(x)
        y = block._attn(h) if swin else block.attn(h, **options)
        x = self._add(x, h, block.drop_path1(_layer_scale(block, 1, y)), self.attn)
        h = block.norm2(x)
        return self._add(x, h, block.drop_path2(_layer_scale(block, 2, block.mlp(h))), self.mlp)

    def _add(self, x: Tensor, h: Tensor, y: Tensor, branch: nn.Module | None) -> Tensor:
        if branch is None:
            return x + y
        beside: Tensor = branch(h if self.normed else x)
        return x + y + beside


def wrap_blocks(backbone: nn.Module, wrap: Callable[[int, Site], nn.Module]) -> None:
    """Put what `wrap` makes of each block (its index, the site) in its place."""
    paths = {id(module): path for path, module in backbone.named_modules()}
    for i, site in enumerate(sites(backbone)):
        replace(backbone, paths[id(site.block)], wrap(i, site))


def _layer_scale(block: Any, sublayer: int, y: Tensor) -> Tensor:
    """What a ViT (`ls1`, `ls2`) or an Eva (`gamma_1`, `gamma_2`) makes of a sublayer's output."""
    if hasattr(block, f"ls{sublayer}"):
        scaled: Tensor = getattr(block, f"ls{sublayer}")(y)
        return scaled
    gamma = getattr(block, f"gamma_{sublayer}", None)
    return y if gamma is None else gamma * y

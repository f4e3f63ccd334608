r"""ARC: Adapter Re-Composing (Dong et al., NeurIPS 2023, section 3; initialisation as released).

One projection U [D, r] is shared by all blocks (in Swin: by those of a stage), for each of two
positions: before the attention's qkv and before the FFN's fc1, after the LayerNorm. A block owns
only r coefficients and a bias:

    h  ->  h + dropout(h U * c) U^T + b        =  h A + b,   A = I + U diag(c) U^T

The map is linear, so it folds into the frozen layer that follows: W' = W A, beta' = beta + W b.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.dropout import SeededDropout
from arc_train.errors import InputError, NotFoldable
from arc_train.methods.folding import merge
from arc_train.structure import Site, is_swin, sites
from arc_train.trials import by_trial


class Recompose(nn.Module):
    """One block's re-composing: `down` [T, D, r], `coeff` [T, r], `bias` [T, D]."""

    def __init__(
        self, down: nn.Parameter, coeff: nn.Parameter, bias: nn.Parameter, dropout: SeededDropout
    ) -> None:
        super().__init__()
        self.down, self.coeff, self.bias = down, coeff, bias
        self.dropout = dropout

    def forward(self, h: Tensor) -> Tensor:
        """h [T*B, ..., D] -> re-composed h of the same shape."""
        z = self.dropout(torch.bmm(by_trial(h, self.down), self.down) * self.coeff[:, None])
        return h + torch.baddbmm(self.bias[:, None], z, self.down.mT).view_as(h)


class ARCLinear(nn.Module):
    """A frozen linear layer behind its block's re-composing."""

    def __init__(self, linear: nn.Linear, recompose: Recompose) -> None:
        super().__init__()
        self.linear = linear
        self.recompose = recompose

    def forward(self, h: Tensor) -> Tensor:
        """h [T*B, ..., D] -> [T*B, ..., out]."""
        out: Tensor = self.linear(self.recompose(h))
        return out

    def folded(self) -> nn.Linear:
        """The plain linear layer with the same output (dropout off)."""
        down, c, bias = (
            tensor[0].double()
            for tensor in (self.recompose.down, self.recompose.coeff, self.recompose.bias)
        )
        weight = self.linear.weight.double()
        beta = weight @ bias
        if self.linear.bias is not None:
            beta = beta + self.linear.bias.double()
        plain = nn.Linear(self.linear.in_features, self.linear.out_features)
        plain.weight.copy_(weight + (weight @ down * c) @ down.T)
        plain.bias.copy_(beta)
        return plain


class ResidualBlock(nn.Module):
    """A Swin block whose residual stream is re-composed before norm2, as in the released code."""

    def __init__(self, block: Any, recompose: Recompose) -> None:
        super().__init__()
        self.block = block
        self.recompose = recompose

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, H, W, D] -> [T*B, H, W, D]."""
        block = self.block
        x = x + block.drop_path1(block._attn(block.norm1(x)))
        x = self.recompose(x)
        out: Tensor = x + block.drop_path2(block.mlp(block.norm2(x)))
        return out


def attach(
    backbone: nn.Module,
    parts: Adapting,
    rank: int = 50,
    dropout: float = 0.1,
    placement: str = "norm",
) -> None:
    """ARC at both positions.

    As released: attention coefficients start at zero (identity), those of the FFN are
    Xavier-uniform over (1, r), so that side starts slightly off the identity.

    placement: "norm" = after norm2, as in the paper. "residual" (Swin only) = on the residual
        stream before norm2, as in the released Swin code; it doesn't fold.
    """
    blocks = sites(backbone)
    attn = _position("attn", blocks, parts, int(rank), dropout, 0.0)
    mlp = _position("mlp", blocks, parts, int(rank), dropout, math.sqrt(6 / (1 + rank)))
    for site, recompose in zip(blocks, attn, strict=True):
        site.block.attn.qkv = ARCLinear(site.block.attn.qkv, recompose)
    if placement == "norm":
        for site, recompose in zip(blocks, mlp, strict=True):
            site.block.mlp.fc1 = ARCLinear(site.block.mlp.fc1, recompose)
    elif placement == "residual" and is_swin(backbone):
        rest = iter(mlp)
        for layer in backbone.layers:  # type: ignore[union-attr]
            for i, block in enumerate(layer.blocks):
                layer.blocks[i] = ResidualBlock(block, next(rest))
    else:
        raise InputError(
            f"arc has no placement {placement!r} on {type(backbone).__name__}; "
            "allowed: 'norm', and 'residual' on a Swin"
        )


def attach_att(backbone: nn.Module, parts: Adapting, rank: int = 50, dropout: float = 0.1) -> None:
    """ARC_att: the attention position only."""
    blocks = sites(backbone)
    recomposing = _position("attn", blocks, parts, int(rank), dropout, 0.0)
    for site, recompose in zip(blocks, recomposing, strict=True):
        site.block.attn.qkv = ARCLinear(site.block.attn.qkv, recompose)


def fold(backbone: nn.Module) -> None:
    """Replace each adapted linear layer by its folded equivalent.

    Raises:
        NotFoldable: the residual placement changes the skip path, which no weight can express.
    """
    if any(isinstance(module, ResidualBlock) for module in backbone.modules()):
        raise NotFoldable(
            "arc with placement='residual' re-composes the residual stream before norm2: a "
            "LayerNorm and the skip connection lie between it and any weight"
        )
    merge(backbone)


def _position(
    name: str, blocks: list[Site], parts: Adapting, rank: int, dropout: float, bound: float
) -> list[Recompose]:
    """One position's re-composings, block by block; a stage's blocks share its projection."""
    trained = parts.trained
    widths = {site.stage: site.width for site in blocks}
    downs = {
        stage: trained.uniform(
            f"arc.{name}.down" + (f".stage{stage}" if len(widths) > 1 else ""),
            width,
            rank,
            bound=math.sqrt(6 / (width + rank)),
        )
        for stage, width in widths.items()
    }
    coeffs = [
        trained.uniform(f"arc.{name}.coeff.{i}", rank, bound=bound) for i in range(len(blocks))
    ]
    return [
        Recompose(
            downs[site.stage],
            coeff,
            trained.zeros(f"arc.{name}.bias.{i}", site.width),
            parts.dropout(dropout),
        )
        for i, (site, coeff) in enumerate(zip(blocks, coeffs, strict=True))
    ]

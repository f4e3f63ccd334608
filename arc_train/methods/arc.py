r"""ARC: Adapter Re-Composing (Dong et al., NeurIPS 2023, section 3; initialisation as released).

One projection U [D, r] is shared by all blocks (in Swin: by those of a stage), for each of two
positions: before the attention's qkv and before the FFN's fc1, after the LayerNorm. A block owns
only r coefficients and a bias:

    h  ->  h + dropout(h U * c) U^T + b        =  h A + b,   A = I + U diag(c) U^T

The map is linear, so it folds into the frozen layer that follows: W' = W A, beta' = beta + W b.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.dropout import SeededDropout
from arc_train.errors import InputError, NotFoldable
from arc_train.structure import Site, is_swin, sites


class Position(nn.Module):
    """One position's parameters: `down` [D, r] (per stage); per block `coeff` [r], `bias` [D]."""

    def __init__(
        self,
        blocks: Sequence[Site],
        rank: int,
        dropout: float,
        coeff_bound: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.stages = [site.stage for site in blocks]
        widths = {site.stage: site.width for site in blocks}
        downs = {
            stage: nn.Parameter(_uniform((width, rank), math.sqrt(6 / (width + rank)), generator))
            for stage, width in widths.items()
        }
        self.down = (
            downs[0]
            if len(downs) == 1
            else nn.ParameterDict({f"stage{stage}": down for stage, down in downs.items()})
        )
        self.coeff = nn.ParameterList(_uniform((rank,), coeff_bound, generator) for _ in blocks)
        self.bias = nn.ParameterList(torch.zeros(site.width) for site in blocks)
        self.dropout = SeededDropout(dropout)

    def projection(self, block: int) -> Tensor:
        """U [D, r] of the given block."""
        if isinstance(self.down, nn.ParameterDict):
            return self.down[f"stage{self.stages[block]}"]
        return self.down

    def forward(self, h: Tensor, block: int) -> Tensor:
        """h [..., D] -> re-composed h [..., D] for the given block."""
        down = self.projection(block)
        z = self.dropout((h @ down) * self.coeff[block], block)
        return h + z @ down.T + self.bias[block]


class ARCLinear(nn.Module):
    """A frozen linear layer behind its block's re-composing."""

    def __init__(self, linear: nn.Linear, position: Position, block: int) -> None:
        super().__init__()
        self.linear = linear
        self.position = position
        self.block = block

    def forward(self, h: Tensor) -> Tensor:
        """h [..., D] -> [..., out]."""
        out: Tensor = self.linear(self.position(h, self.block))
        return out

    def folded(self) -> nn.Linear:
        """The plain linear layer with the same output (dropout off)."""
        down = self.position.projection(self.block).double()
        c, bias = self.position.coeff[self.block].double(), self.position.bias[self.block].double()
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

    def __init__(self, block: Any, position: Position, index: int) -> None:
        super().__init__()
        self.block = block
        self.position = position
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """x [B, H, W, D] -> [B, H, W, D]."""
        block = self.block
        x = x + block.drop_path1(block._attn(block.norm1(x)))
        x = self.position(x, self.index)
        out: Tensor = x + block.drop_path2(block.mlp(block.norm2(x)))
        return out


def attach(
    backbone: nn.Module,
    generator: torch.Generator | None,
    rank: int = 50,
    dropout: float = 0.1,
    placement: str = "norm",
) -> dict[str, nn.Module]:
    """ARC at both positions.

    As released: attention coefficients start at zero (identity), those of the FFN are
    Xavier-uniform over (1, r), so that side starts slightly off the identity.

    placement: "norm" = after norm2, as in the paper. "residual" (Swin only) = on the residual
        stream before norm2, as in the released Swin code; it doesn't fold.
    """
    blocks = sites(backbone)
    bound = math.sqrt(6 / (1 + rank))
    attn = Position(blocks, int(rank), dropout, 0.0, generator)
    mlp = Position(blocks, int(rank), dropout, bound, generator)
    _wrap([(site.block.attn, "qkv") for site in blocks], attn)
    if placement == "norm":
        _wrap([(site.block.mlp, "fc1") for site in blocks], mlp)
    elif placement == "residual" and is_swin(backbone):
        index = 0
        for layer in backbone.layers:  # type: ignore[union-attr]
            for i, block in enumerate(layer.blocks):
                layer.blocks[i] = ResidualBlock(block, mlp, index)
                index += 1
    else:
        raise InputError(
            f"arc has no placement {placement!r} on {type(backbone).__name__}; "
            "allowed: 'norm', and 'residual' on a Swin"
        )
    return {"arc": nn.ModuleDict({"attn": attn, "mlp": mlp})}


def attach_att(
    backbone: nn.Module,
    generator: torch.Generator | None,
    rank: int = 50,
    dropout: float = 0.1,
) -> dict[str, nn.Module]:
    """ARC_att: the attention position only."""
    blocks = sites(backbone)
    attn = Position(blocks, int(rank), dropout, 0.0, generator)
    _wrap([(site.block.attn, "qkv") for site in blocks], attn)
    return {"arc": nn.ModuleDict({"attn": attn})}


def fold(model: Any) -> None:
    """Replace each wrapped linear by its folded equivalent.

    Raises:
        NotFoldable: the residual placement changes the skip path, which no weight can express.
    """
    for module in list(model.backbone.modules()):
        if isinstance(module, ResidualBlock):
            raise NotFoldable(
                "arc with placement='residual' re-composes the residual stream before norm2: a "
                "LayerNorm and the skip connection lie between it and any weight"
            )
        for name, child in list(module.named_children()):
            if isinstance(child, ARCLinear):
                setattr(module, name, child.folded())


def _wrap(linears: Sequence[tuple[Any, str]], position: Position) -> None:
    for block, (owner, name) in enumerate(linears):
        setattr(owner, name, ARCLinear(getattr(owner, name), position, block))


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound

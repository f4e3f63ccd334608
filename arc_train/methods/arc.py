r"""ARC: Adapter Re-Composing (Dong et al., NeurIPS 2023, section 3; initialisation as released).

One projection U [D, r] is shared by all blocks, for each of two positions: before the attention's
qkv and before the FFN's fc1, after the LayerNorm. A block owns only r coefficients and a bias:

    h  ->  h + dropout(h U * c) U^T + b        =  h A + b,   A = I + U diag(c) U^T

The map is linear, so it folds into the frozen layer that follows: W' = W A, beta' = beta + W b.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.backbones import vit_blocks
from arc_train.dropout import SeededDropout


class Position(nn.Module):
    """The parameters of one position kind: `down` [D, r], per block `coeff` [r], `bias` [D]."""

    def __init__(
        self,
        width: int,
        rank: int,
        blocks: int,
        dropout: float,
        coeff_bound: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        bound = math.sqrt(6 / (width + rank))
        self.down = nn.Parameter(_uniform((width, rank), bound, generator))
        self.coeff = nn.ParameterList(
            _uniform((rank,), coeff_bound, generator) for _ in range(blocks)
        )
        self.bias = nn.ParameterList(torch.zeros(width) for _ in range(blocks))
        self.dropout = SeededDropout(dropout)

    def forward(self, h: Tensor, block: int) -> Tensor:
        """h [B, N, D] -> re-composed h [B, N, D] for the given block."""
        z = self.dropout((h @ self.down) * self.coeff[block], block)
        return h + z @ self.down.T + self.bias[block]


class ARCLinear(nn.Module):
    """A frozen linear layer behind its block's re-composing."""

    def __init__(self, linear: nn.Linear, position: Position, block: int) -> None:
        super().__init__()
        self.linear = linear
        self.position = position
        self.block = block

    def forward(self, h: Tensor) -> Tensor:
        """h [B, N, D] -> [B, N, out]."""
        out: Tensor = self.linear(self.position(h, self.block))
        return out

    def folded(self) -> nn.Linear:
        """The plain linear layer with the same output (dropout off)."""
        down, c = self.position.down.double(), self.position.coeff[self.block].double()
        weight = self.linear.weight.double()
        beta = weight @ self.position.bias[self.block].double()
        if self.linear.bias is not None:
            beta = beta + self.linear.bias.double()
        plain = nn.Linear(self.linear.in_features, self.linear.out_features)
        plain.weight.copy_(weight + (weight @ down * c) @ down.T)
        plain.bias.copy_(beta)
        return plain


def attach(
    backbone: nn.Module,
    generator: torch.Generator | None,
    rank: int = 50,
    dropout: float = 0.1,
) -> dict[str, nn.Module]:
    """ARC at both positions.

    As released: attention coefficients start at zero (identity), those of the FFN are
    Xavier-uniform over (1, r), so that side starts slightly off the identity.
    """
    blocks = vit_blocks(backbone)
    bound = math.sqrt(6 / (1 + rank))
    attn = _wrap([(b.attn, "qkv") for b in blocks], rank, dropout, 0.0, generator)
    mlp = _wrap([(b.mlp, "fc1") for b in blocks], rank, dropout, bound, generator)
    return {"arc": nn.ModuleDict({"attn": attn, "mlp": mlp})}


def attach_att(
    backbone: nn.Module,
    generator: torch.Generator | None,
    rank: int = 50,
    dropout: float = 0.1,
) -> dict[str, nn.Module]:
    """ARC_att: the attention position only."""
    blocks = vit_blocks(backbone)
    attn = _wrap([(b.attn, "qkv") for b in blocks], rank, dropout, 0.0, generator)
    return {"arc": nn.ModuleDict({"attn": attn})}


def fold(model: Any) -> None:
    """Replace each wrapped linear by its folded equivalent."""
    for module in list(model.backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ARCLinear):
                setattr(module, name, child.folded())


def _wrap(
    linears: list[tuple[Any, str]],
    rank: int,
    dropout: float,
    coeff_bound: float,
    generator: torch.Generator | None,
) -> Position:
    width = getattr(*linears[0]).in_features
    position = Position(width, int(rank), len(linears), dropout, coeff_bound, generator)
    for block, (owner, name) in enumerate(linears):
        setattr(owner, name, ARCLinear(getattr(owner, name), position, block))
    return position


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound

"""LoRA (Hu et al., 2022) on the queries and values: W' = W + s B A for the rows of q and of v.

A [r, D] starts Kaiming-uniform, B [D, r] at zero, for q and v alike: the model starts as the
backbone and both can learn. (The V-PETL code draws q's B at random and leaves both of v's at zero,
so that v never learns.)
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.structure import sites


class LowRank(nn.Module):
    """x [..., D] -> x A^T B^T [..., D] with `A` [r, D], `B` [D, r]."""

    def __init__(self, width: int, rank: int, generator: torch.Generator | None) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)  # Kaiming-uniform with a = sqrt(5)
        self.A = nn.Parameter((torch.rand(rank, width, generator=generator) * 2 - 1) * bound)
        self.B = nn.Parameter(torch.zeros(width, rank))

    def forward(self, x: Tensor) -> Tensor:
        """The update before scaling."""
        return x @ self.A.T @ self.B.T


class LoRALinear(nn.Module):
    """A frozen fused qkv layer with low-rank updates of its q and v rows."""

    def __init__(self, linear: nn.Linear, q: LowRank, v: LowRank, scale: float) -> None:
        super().__init__()
        self.linear = linear
        self.q, self.v = q, v
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(scale)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., 3D]."""
        width = x.shape[-1]
        update = (self.q(x), x.new_zeros(()).expand(*x.shape[:-1], width), self.v(x))
        out: Tensor = self.linear(x) + self.scale * torch.cat(update, dim=-1)
        return out

    def folded(self) -> nn.Linear:
        """The plain layer with the same output."""
        q, v = (self.scale * (part.B.double() @ part.A.double()) for part in (self.q, self.v))
        delta = torch.cat([q, torch.zeros_like(q), v])
        plain = nn.Linear(
            self.linear.in_features, self.linear.out_features, bias=self.linear.bias is not None
        )
        plain.weight.copy_(self.linear.weight.double() + delta)
        if self.linear.bias is not None:
            plain.bias.copy_(self.linear.bias)
        return plain


def attach(
    backbone: nn.Module, generator: torch.Generator | None, rank: int = 8, scale: float = 1.0
) -> dict[str, nn.Module]:
    """LoRA on q and v of every block; `scale` multiplies the update (alpha / r elsewhere)."""
    updates = nn.ModuleList()
    for site in sites(backbone):
        q, v = (LowRank(site.width, int(rank), generator) for _ in range(2))
        updates.append(nn.ModuleDict({"q": q, "v": v}))
        site.block.attn.qkv = LoRALinear(site.block.attn.qkv, q, v, scale)
    return {"lora": updates}


def fold(model: Any) -> None:
    """Replace each adapted layer by its merged equivalent."""
    for site in sites(model.backbone):
        site.block.attn.qkv = site.block.attn.qkv.folded()

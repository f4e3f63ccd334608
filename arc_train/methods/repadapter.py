"""RepAdapter (Luo et al., 2023): linear adapters before the attention and before the FFN.

    h  ->  h + s up(down(h))

`down` is dense, D -> r; `up` works in groups: each part of the r values makes one part of the D
channels. Without a non-linearity it folds into the frozen layer that follows.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.structure import sites

GROUPS = 2


class RepAdapter(nn.Module):
    """`down` [G, r/G, D], `up` [G, r/G, D/G] and their biases [G, r/G], [D]."""

    def __init__(self, width: int, rank: int, generator: torch.Generator | None) -> None:
        super().__init__()
        part = -(-rank // GROUPS)
        bound = math.sqrt(6 / (width + rank))
        draws = torch.rand(GROUPS, part, width, generator=generator) * 2 - 1
        self.down = nn.Parameter(draws * bound)
        self.down_bias = nn.Parameter(torch.zeros(GROUPS, part))
        self.up = nn.Parameter(torch.zeros(GROUPS, part, width // GROUPS))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor) -> Tensor:
        """h [..., D] -> the update [..., D]."""
        z = torch.einsum("...d,grd->...gr", h, self.down) + self.down_bias
        return torch.einsum("...gr,grd->...gd", z, self.up).flatten(-2) + self.up_bias


class AdaptedLinear(nn.Module):
    """A frozen linear layer behind its adapter."""

    def __init__(self, linear: nn.Linear, adapter: RepAdapter, scale: float) -> None:
        super().__init__()
        self.linear = linear
        self.adapter = adapter
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(scale)), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """h [..., D] -> [..., out]."""
        out: Tensor = self.linear(h + self.scale * self.adapter(h))
        return out

    def folded(self) -> nn.Linear:
        """The plain linear layer with the same output: what the adapter makes of 0 and of I."""
        adapter = self.adapter.double()
        weight = self.linear.weight.double()
        eye = torch.eye(self.linear.in_features, dtype=torch.float64, device=weight.device)
        constant = adapter(torch.zeros_like(eye[0]))
        plain = nn.Linear(self.linear.in_features, self.linear.out_features)
        plain.weight.copy_(weight + self.scale * weight @ (adapter(eye) - constant).T)
        beta = self.scale * weight @ constant
        plain.bias.copy_(beta if self.linear.bias is None else self.linear.bias.double() + beta)
        return plain


def attach(
    backbone: nn.Module, generator: torch.Generator | None, rank: int = 8, scale: float = 1.0
) -> dict[str, nn.Module]:
    """An adapter before qkv and one before fc1 of every block; odd ranks are rounded up."""
    adapters = nn.ModuleDict({"attn": nn.ModuleList(), "mlp": nn.ModuleList()})
    for site in sites(backbone):
        for position, owner, name in (
            ("attn", site.block.attn, "qkv"),
            ("mlp", site.block.mlp, "fc1"),
        ):
            adapter = RepAdapter(site.width, int(rank), generator)
            adapters[position].append(adapter)  # type: ignore[operator]
            setattr(owner, name, AdaptedLinear(getattr(owner, name), adapter, scale))
    return {"repadapter": adapters}


def fold(model: Any) -> None:
    """Replace each adapted layer by its merged equivalent."""
    for site in sites(model.backbone):
        site.block.attn.qkv = site.block.attn.qkv.folded()
        site.block.mlp.fc1 = site.block.mlp.fc1.folded()

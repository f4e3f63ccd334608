"""Bottleneck adapters: y -> y + up(GELU(down(y))) on a sublayer's output, before its residual add.

`adapter`: one per block, after the FFN (Pfeiffer et al., 2021), which is what the tables call
Adapter. `adapter_houlsby`: also after the attention (Houlsby et al., 2019).

Published numbers come from code that starts both layers at zero: GELU(0) = 0 and up = 0 block each
other's gradient for ever, and only up's bias can learn. Here down starts small and random and up
at zero; `as_published=True` is the broken start, for those who want to see the difference.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.errors import NotFoldable
from arc_train.structure import Site, sites

DOWN_STD = 0.02


class Bottleneck(nn.Module):
    """`down` D -> r, GELU, `up` r -> D, on top of what it gets."""

    def __init__(
        self, width: int, rank: int, as_published: bool, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        std = 0.0 if as_published else DOWN_STD
        with torch.no_grad():
            self.down.weight.copy_(std * torch.randn(rank, width, generator=generator))
            for zero in (self.down.bias, self.up.weight, self.up.bias):
                zero.zero_()

    def forward(self, y: Tensor) -> Tensor:
        """y [..., D] -> [..., D]."""
        out: Tensor = y + self.up(F.gelu(self.down(y)))
        return out


class Followed(nn.Module):
    """A frozen sublayer followed by an adapter."""

    def __init__(self, sublayer: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.sublayer = sublayer
        self.adapter = adapter

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        """What the sublayer takes -> its output, adapted."""
        out: Tensor = self.adapter(self.sublayer(*arguments, **options))
        return out


def attach(
    backbone: nn.Module,
    generator: torch.Generator | None,
    rank: int = 12,
    as_published: bool = False,
) -> dict[str, nn.Module]:
    """One adapter per block, after the FFN; rank 12 is the published reduction by 64 on ViT-B."""
    mlp = _follow(sites(backbone), "mlp", int(rank), as_published, generator)
    return {"adapter": nn.ModuleDict({"mlp": mlp})}


def attach_houlsby(
    backbone: nn.Module, generator: torch.Generator | None, rank: int = 8
) -> dict[str, nn.Module]:
    """Two adapters per block, after the attention and after the FFN."""
    blocks = sites(backbone)
    attn = _follow(blocks, "attn", int(rank), False, generator)
    mlp = _follow(blocks, "mlp", int(rank), False, generator)
    return {"adapter": nn.ModuleDict({"attn": attn, "mlp": mlp})}


def fold(model: Any) -> None:
    """Adapters don't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable(f"{model.method} has a GELU between its layers: no linear layer equals it")


def _follow(
    blocks: list[Site],
    sublayer: str,
    rank: int,
    as_published: bool,
    generator: torch.Generator | None,
) -> nn.ModuleList:
    adapters = nn.ModuleList()
    for site in blocks:
        adapter = Bottleneck(site.width, rank, as_published, generator)
        setattr(site.block, sublayer, Followed(getattr(site.block, sublayer), adapter))
        adapters.append(adapter)
    return adapters

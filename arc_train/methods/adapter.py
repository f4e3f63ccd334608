"""Bottleneck adapters: y -> y + up(GELU(down(y))) on a sublayer's output, before its residual add.

`adapter`: one per block, after the FFN (Pfeiffer et al., 2021), which is what the tables call
Adapter. `adapter_houlsby`: also after the attention (Houlsby et al., 2019).

Published numbers come from code that starts both layers at zero: GELU(0) = 0 and up = 0 block each
other's gradient for ever, and only up's bias can learn. Here down starts small and random and up
at zero; `as_published=True` is the broken start, for those who want to see the difference.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.adapting import Adapting
from arc_train.errors import NotFoldable
from arc_train.structure import Site, sites
from arc_train.trained import Trained
from arc_train.trials import by_trial

DOWN_STD = 0.02
Draw = Callable[..., nn.Parameter]  # (name, *shape) -> a new trained tensor


class Linear(nn.Module):
    """A trained layer: `weight` [T, out, in] as it is drawn, `bias` [T, out] zero."""

    def __init__(self, trained: Trained, name: str, out: int, into: int, draw: Draw) -> None:
        super().__init__()
        self.weight = draw(f"{name}.weight", out, into)
        self.bias = trained.zeros(f"{name}.bias", out)


class Adapter(nn.Module):
    """A frozen sublayer followed by `down` D -> r, GELU, `up` r -> D, on top of its output."""

    def __init__(
        self, sublayer: nn.Module, trained: Trained, name: str, width: int, rank: int, std: float
    ) -> None:
        super().__init__()
        self.sublayer = sublayer
        normal = trained.normal
        self.down = Linear(trained, f"{name}.down", rank, width, partial(normal, std=std))
        self.up = Linear(trained, f"{name}.up", width, rank, partial(normal, std=0.0))

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        """What the sublayer takes -> its output [T*B, ..., D], adapted."""
        y: Tensor = self.sublayer(*arguments, **options)
        rows = by_trial(y, self.down.weight)
        z = F.gelu(torch.baddbmm(self.down.bias[:, None], rows, self.down.weight.mT))
        return (rows + self.up.bias[:, None]).baddbmm_(z, self.up.weight.mT).view_as(y)


def attach(
    backbone: nn.Module, parts: Adapting, rank: int = 12, as_published: bool = False
) -> None:
    """One adapter per block, after the FFN; rank 12 is the published reduction by 64 on ViT-B."""
    _follow("mlp", sites(backbone), parts, int(rank), 0.0 if as_published else DOWN_STD)


def attach_houlsby(backbone: nn.Module, parts: Adapting, rank: int = 8) -> None:
    """Two adapters per block, after the attention and after the FFN."""
    blocks = sites(backbone)
    for sublayer in ("attn", "mlp"):
        _follow(sublayer, blocks, parts, int(rank), DOWN_STD)


def fold(backbone: nn.Module) -> None:
    """Adapters don't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("an adapter has a GELU between its layers: no linear layer equals it")


def _follow(sublayer: str, blocks: list[Site], parts: Adapting, rank: int, std: float) -> None:
    for i, site in enumerate(blocks):
        frozen = getattr(site.block, sublayer)
        name = f"adapter.{sublayer}.{i}"
        adapted = Adapter(frozen, parts.trained, name, site.width, rank, std)
        setattr(site.block, sublayer, adapted)

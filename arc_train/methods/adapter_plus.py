"""Adapter+ (Steitz and Roth, CVPR 2024): an adapter after each block, scaled by channel.

    x  ->  block(x)  ->  x + g * drop_path(up(GELU(down(x)))),   g [D] starts at 1

The adapter reads the residual stream itself. Both weights are drawn from a normal distribution of
deviation 0.01, cut off at two deviations, so the model starts near the backbone. Its drop path,
which leaves out the adapter of whole images, is what regularises it. The paper trains with the
backbone's own drop path on, too, which is off here.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.dropout import SeededDropPath
from arc_train.errors import NotFoldable
from arc_train.methods.adapter import Linear
from arc_train.methods.bottleneck import Bottleneck, wrap_blocks
from arc_train.structure import Site
from arc_train.trained import Trained

STD = 0.01


class Followed(nn.Module):
    """A frozen block with an adapter after it, times `gain` [T, D]."""

    def __init__(
        self, block: nn.Module, adapter: nn.Module, gain: nn.Parameter, drop_path: SeededDropPath
    ) -> None:
        super().__init__()
        self.block, self.adapter, self.gain = block, adapter, gain
        self.drop_path = drop_path

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """What the block takes -> its output [T*B, ..., D], adapted."""
        y: Tensor = self.block(x, **options)
        trials, width = self.gain.shape
        update = self.adapter(y).view(trials, len(y) // trials, -1, width)
        out: Tensor = y + (self.drop_path(update) * self.gain[:, None, None]).view_as(y)
        return out


def attach(backbone: nn.Module, parts: Adapting, rank: int = 8, drop_path: float = 0.1) -> None:
    """One adapter after every block."""
    trained = parts.trained

    def wrap(i: int, site: Site) -> nn.Module:
        key, draw = f"adapter_plus.{i}", partial(_truncated, trained)
        down = Linear(trained, f"{key}.down", int(rank), site.width, draw)
        up = Linear(trained, f"{key}.up", site.width, int(rank), draw)
        adapter = Bottleneck(down, nn.GELU(), up)
        gain = trained.add(f"{key}.gain", torch.ones(site.width))
        return Followed(site.block, adapter, gain, parts.drop_path(drop_path))

    wrap_blocks(backbone, wrap)


def fold(backbone: nn.Module) -> None:
    """Adapter+ doesn't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("adapter_plus has a GELU between its layers: no linear layer equals it")


def _truncated(trained: Trained, name: str, *shape: int) -> nn.Parameter:
    draws = torch.empty(shape)
    nn.init.trunc_normal_(draws, std=STD, a=-2 * STD, b=2 * STD, generator=trained.generator)
    return trained.add(name, draws)

"""Convpass (Jie and Deng, 2022): convolutional bottlenecks beside the attention and the FFN.

    x  ->  x + sublayer(h) + s up(dropout(q(conv(q(down(h)))))),   h = norm(x)

q is QuickGELU, z sigmoid(1.702 z). The convolution is dense, 3x3 over the grid of patches; a class
token or register passes through its centre alone, like an image of one pixel. `up` starts at zero:
the model starts as the backbone. The released identity for the convolution works at rank 8 only;
here it does at any rank. The paper trains with the backbone's drop path on, which is off here.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.adapting import Adapting
from arc_train.dropout import SeededDropout
from arc_train.errors import InputError, NotFoldable
from arc_train.methods.adapter import Linear
from arc_train.methods.bottleneck import Bottleneck, Branched, wrap_blocks
from arc_train.structure import Site, is_swin

INITIAL = ("identity", "xavier")
PLACEMENTS = ("both", "attn")


class Convolution(nn.Module):
    """QuickGELU, convolution, QuickGELU, dropout: `weight` [T, r, r, 3, 3], `bias` [T, r].

    grid: rows and columns of patches. prefix: how many tokens lie before them.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter,
        grid: tuple[int, int],
        prefix: int,
        dropout: SeededDropout,
    ) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.grid, self.prefix = grid, prefix
        self.dropout = dropout

    def forward(self, z: Tensor) -> Tensor:
        """z [T, B*N, r] -> the same shape."""
        trials, rank = self.bias.shape
        rows, columns = self.grid
        tokens = _quick_gelu(z).view(trials, -1, self.prefix + rows * columns, rank)
        patches = tokens[:, :, self.prefix :].transpose(0, 1)  # [B, T, N, r]
        planes = patches.mT.reshape(-1, trials * rank, rows, columns)
        weight = self.weight.flatten(0, 1)
        planes = F.conv2d(planes, weight, self.bias.flatten(), padding=1, groups=trials)
        out = planes.view(-1, trials, rank, rows * columns).mT.transpose(0, 1)
        if self.prefix:
            centre = self.weight[:, None, :, :, 1, 1].mT
            alone = tokens[:, :, : self.prefix] @ centre + self.bias[:, None, None]
            out = torch.cat([alone, out], dim=2)
        mixed: Tensor = self.dropout(_quick_gelu(out.reshape_as(z)))
        return mixed


def attach(
    backbone: Any,
    parts: Adapting,
    rank: int = 8,
    scale: float = 1.0,
    dropout: float = 0.1,
    conv_init: str = "identity",
    placement: str = "both",
) -> None:
    """Bottlenecks beside attention and FFN of every block; placement "attn": Convpass-attn.

    Raises:
        InputError: no such initialisation or placement.
    """
    if conv_init not in INITIAL or placement not in PLACEMENTS:
        raise InputError(
            f"convpass has conv_init {' or '.join(INITIAL)} and placement "
            f"{' or '.join(PLACEMENTS)}, not {conv_init!r} and {placement!r}"
        )
    side = backbone.patch_embed.grid_size

    def branch(key: str, site: Site) -> nn.Module:
        trained, width, r = parts.trained, site.width, int(rank)
        xavier = partial(trained.uniform, bound=math.sqrt(6 / (width + r)))
        if conv_init == "xavier":
            weight = trained.uniform(f"{key}.conv.weight", r, r, 3, 3, bound=math.sqrt(6 / 18 / r))
        else:
            weight = trained.add(
                f"{key}.conv.weight", F.pad(torch.eye(r)[..., None, None], [1] * 4)
            )
        inner = Convolution(
            weight,
            trained.zeros(f"{key}.conv.bias", r),
            (side[0] >> site.stage, side[1] >> site.stage),
            0 if is_swin(backbone) else backbone.num_prefix_tokens,
            parts.dropout(dropout),
        )
        down = Linear(trained, f"{key}.down", r, width, xavier)
        up = Linear(trained, f"{key}.up", width, r, trained.zeros)
        return Bottleneck(down, inner, up, scale)

    def wrap(i: int, site: Site) -> nn.Module:
        attn = branch(f"convpass.attn.{i}", site)
        mlp = branch(f"convpass.mlp.{i}", site) if placement == "both" else None
        return Branched(site.block, attn, mlp, normed=True)

    wrap_blocks(backbone, wrap)


def fold(backbone: nn.Module) -> None:
    """Convpass doesn't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("convpass has non-linearities and a convolution over patches")


def _quick_gelu(z: Tensor) -> Tensor:
    return z * torch.sigmoid(1.702 * z)

"""RepAdapter (Luo et al., 2023): linear adapters before the attention and before the FFN.

    h  ->  h + s up(down(h))

`down` is dense, D -> r; `up` works in groups: each part of the r values makes one part of the D
channels. Without a non-linearity it folds into the frozen layer that follows.
"""

import math

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.methods.folding import merge
from arc_train.structure import sites
from arc_train.trained import Trained
from arc_train.trials import by_trial

GROUPS = 2


class AdaptedLinear(nn.Module):
    """A frozen linear layer behind its adapter.

    `down` [T, G, r/G, D], `up` [T, G, r/G, D/G], their biases [T, G, r/G] and [T, D], `scale` [T].
    """

    scale: Tensor

    def __init__(
        self, linear: nn.Linear, trained: Trained, name: str, width: int, rank: int, scale: float
    ) -> None:
        super().__init__()
        self.linear = linear
        part = -(-rank // GROUPS)
        bound = math.sqrt(6 / (width + rank))
        self.down = trained.uniform(f"{name}.down", GROUPS, part, width, bound=bound)
        self.down_bias = trained.zeros(f"{name}.down_bias", GROUPS, part)
        self.up = trained.zeros(f"{name}.up", GROUPS, part, width // GROUPS)
        self.up_bias = trained.zeros(f"{name}.up_bias", width)
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """h [T*B, ..., D] -> [T*B, ..., out]."""
        rows = by_trial(h, self.down)
        update = self.update(rows) * self.scale[:, None, None].to(rows.dtype)
        out: Tensor = self.linear(h + update.view_as(h))
        return out

    def update(self, rows: Tensor) -> Tensor:
        """What the adapter adds before scaling: [T, rows, D] -> [T, rows, D]."""
        down, bias = self.down.flatten(1, 2), self.down_bias.flatten(1, 2)
        z = torch.baddbmm(bias[:, None], rows, down.mT)
        z = z.view(*z.shape[:2], *self.down_bias.shape[1:])
        return torch.einsum("tngp,tgpd->tngd", z, self.up).flatten(-2) + self.up_bias[:, None]

    def folded(self) -> nn.Linear:
        """The plain linear layer with the same output: what the adapter makes of 0 and of I."""
        self.double()
        weight = self.linear.weight
        eye = torch.eye(self.linear.in_features, dtype=weight.dtype, device=weight.device)[None]
        constant = self.update(torch.zeros_like(eye[:, :1]))
        plain = nn.Linear(self.linear.in_features, self.linear.out_features)
        plain.weight.copy_(weight + self.scale * weight @ (self.update(eye) - constant)[0].mT)
        beta = self.scale * (weight @ constant[0, 0])
        plain.bias.copy_(beta if self.linear.bias is None else self.linear.bias + beta)
        return plain


def attach(backbone: nn.Module, parts: Adapting, rank: int = 8, scale: float = 1.0) -> None:
    """An adapter before qkv and one before fc1 of every block; odd ranks are rounded up."""
    for i, site in enumerate(sites(backbone)):
        for position, owner, linear in (
            ("attn", site.block.attn, "qkv"),
            ("mlp", site.block.mlp, "fc1"),
        ):
            name = f"repadapter.{position}.{i}"
            frozen = getattr(owner, linear)
            adapted = AdaptedLinear(frozen, parts.trained, name, site.width, int(rank), scale)
            setattr(owner, linear, adapted)


fold = merge

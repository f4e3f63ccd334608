"""VeRA (Kopiczko et al., ICLR 2024): W' = W + s diag(b) B diag(d) A, with A and B frozen.

A [r, D] and B [D, r] are random and shared by all blocks (in Swin: by those of a stage), and by q
and v, which the paper adapts; a block owns the vectors d [r] and b [D] of each. Both projections
are Kaiming-uniform, d starts at 0.1 and b at zero: the model starts as the backbone. They come
from a fixed seed, so that an adapter's file needs no copy of them.

`target="qkv"` is what Hugging Face's peft makes of timm's fused layer: k is adapted too, with one d
for all three.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.adapting import Adapting
from arc_train.methods.folding import merge, updated
from arc_train.methods.frozen import frozen, projection, within_rank
from arc_train.methods.fused import outputs
from arc_train.structure import Site, sites
from arc_train.trials import by_trial

D_INITIAL = 0.1


class Vectors(nn.Module):
    """What is trained for some outputs of a layer: `d` [T, R], `b` [T, outputs]."""

    def __init__(self, d: nn.Parameter, b: nn.Parameter, outputs: slice) -> None:
        super().__init__()
        self.d, self.b = d, b
        self.outputs = outputs


class VeRALinear(nn.Module):
    """A frozen fused qkv layer with rescaled random projections beside it.

    down: [R, D], up: [R, outputs], frozen. `rank`, `scale` [T].
    """

    vectors: Any
    rank: Tensor
    scale: Tensor

    def __init__(
        self,
        linear: nn.Linear,
        down: nn.Parameter,
        up: nn.Parameter,
        vectors: Sequence[Vectors],
        rank: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.down, self.up = down, up
        self.vectors = nn.ModuleList(vectors)
        self.register_buffer("rank", torch.tensor([float(rank)]), persistent=False)
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., D] -> [T*B, ..., 3D]."""
        gain = self.gain()
        rows = by_trial(x, self.vectors[0].d)
        z = F.linear(rows, self.down)
        out: Tensor = self.linear(rows.view_as(x))
        whole = out.view(*rows.shape[:2], -1)
        for own in self.vectors:
            update = self.latent(z, own, gain.to(z.dtype)) @ self.up
            whole[:, :, own.outputs].add_(update * own.b[:, None])
        return out

    def latent(self, z: Tensor, own: Vectors, gain: Tensor) -> Tensor:
        """What passes between the projections: z [T, rows, R], gain [T, R] -> [T, rows, R]."""
        return z * (own.d * gain)[:, None]

    def gain(self) -> Tensor:
        """The scale times the bound of B at each trial's rank, zero beyond the rank: [T, R]."""
        gain = self.scale * torch.sqrt(6 / self.rank)
        return within_rank(self.rank, len(self.up)) * gain[:, None]

    def folded(self) -> nn.Linear:
        """The plain layer with the same output."""
        down, up, gain = self.down.double(), self.up.double(), self.gain()[0]
        update = torch.zeros_like(self.linear.weight, dtype=torch.float64)
        for own in self.vectors:
            d = own.d[0].view(-1, len(up))[0]  # of pvera's halves the first
            update[own.outputs] = own.b[0, :, None] * ((up.mT * (d * gain)) @ down[: len(up)])
        return updated(self.linear, update)


def attach(
    backbone: nn.Module, parts: Adapting, rank: int = 256, scale: float = 1.0, target: str = "qv"
) -> None:
    """VeRA on q and v, or on the fused qkv; the paper has no scale (it is 1)."""
    rank, trained = int(rank), parts.trained
    for i, site, projections in placed(backbone, parts, "A", rank=rank, target=target):
        vectors = [
            Vectors(
                trained.add(f"vera.{i}.{part}.d", torch.full((rank,), D_INITIAL)),
                trained.zeros(f"vera.{i}.{part}.b", place.stop - place.start),
                place,
            )
            for part, place in outputs(target, site.width).items()
        ]
        linear = site.block.attn.qkv
        site.block.attn.qkv = VeRALinear(linear, *projections, vectors, rank, scale)


def placed(
    backbone: nn.Module, parts: Adapting, *halves: str, rank: int, target: str
) -> Iterator[tuple[int, Site, tuple[nn.Parameter, nn.Parameter]]]:
    """The blocks, each with the frozen projections of its stage: (`down`, `up`).

    halves: what `down` consists of, [rank, D] each, one above the other.
    """
    shared: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    for i, site in enumerate(sites(backbone)):
        stage, width = site.stage, site.width
        if stage not in shared:
            wide = max(place.stop - place.start for place in outputs(target, width).values())
            down = [projection("vera", a, stage, rows=rank, columns=width) for a in halves]
            up = projection("vera", "B", stage, rows=rank, columns=wide)
            bound = math.sqrt(6 / width)  # that of B is in the gain
            shared[stage] = (
                frozen(backbone, parts, bound * torch.cat(down)),
                frozen(backbone, parts, up),
            )
        yield i, site, shared[stage]


fold = merge

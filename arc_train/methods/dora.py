"""DoRA (Liu et al., ICML 2024): W' = diag(m / |V|) V with V = W + s B A and |V| of its rows.

On q and v of every block; m [outputs] starts at |W|, B at zero: the model starts as the backbone.
As in the paper (section 4.3) and in peft, no gradient flows through |V|. A magnitude belongs to an
output, as DoRA's authors say; some codes take the norms of columns under the same name. Trained is
the change of m, so that weight decay pulls it to where it started. `target="qkv"` adapts timm's
fused layer as one.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.methods.folding import merge, updated
from arc_train.methods.fused import outputs
from arc_train.structure import sites
from arc_train.trials import by_trial


class Factors(nn.Module):
    """What is trained for some outputs: `A` [T, r, D], `B` [T, outputs, r], `magnitude`."""

    def __init__(self, trained: Any, key: str, rank: int, width: int, outputs: slice) -> None:
        super().__init__()
        count = outputs.stop - outputs.start
        self.A = trained.uniform(f"{key}.A", rank, width, bound=1 / math.sqrt(width))
        self.B = trained.zeros(f"{key}.B", count, rank)
        self.magnitude = trained.zeros(f"{key}.magnitude", count)
        self.outputs = outputs

    def gain(self, weight: Tensor, scale: Tensor) -> Tensor:
        """m / |V| [T, outputs], in float32 at least; weight: the frozen rows [outputs, D].

        |V|^2 is expanded, so that no [T, outputs, D] is needed:
        |w|^2 + 2 s b (A w) + s^2 b (A A^T) b for each row w of W and b of B.
        """
        exact = torch.promote_types(self.A.dtype, torch.float32)
        with torch.no_grad():
            w, a, b = (x.to(exact) for x in (weight, self.A, self.B * scale))
            start = w.square().sum(dim=1)
            cross = (b * (a @ w.mT).mT).sum(dim=2)
            square = start + 2 * cross + ((b @ (a @ a.mT)) * b).sum(dim=2)
        gain: Tensor = (start.sqrt() + self.magnitude) / square.sqrt()
        return gain


class DoRALinear(nn.Module):
    """A frozen fused qkv layer, some outputs of which have another direction and magnitude.

    `scale` [T].
    """

    factors: Any
    scale: Tensor

    def __init__(self, linear: nn.Linear, factors: Sequence[Factors], scale: float) -> None:
        super().__init__()
        self.linear = linear
        self.factors = nn.ModuleList(factors)
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., D] -> [T*B, ..., 3D]."""
        rows = by_trial(x, self.factors[0].A)
        scale = self.scale[:, None, None].to(rows.dtype)
        out: Tensor = self.linear(rows.view_as(x))
        whole = out.view(*rows.shape[:2], -1)
        for own in self.factors:
            place = own.outputs
            gain = own.gain(self.linear.weight[place], scale)
            update = torch.bmm(torch.bmm(rows, own.A.mT), own.B.mT * scale)
            bias = 0 if self.linear.bias is None else self.linear.bias[place]
            product = whole[:, :, place] - bias
            more = product * (gain - 1).to(rows.dtype)[:, None]
            whole[:, :, place].add_(more + update * gain.to(rows.dtype)[:, None])
        return out

    def folded(self) -> nn.Linear:
        """The plain layer with the same output."""
        weight = self.linear.weight.double()
        change = torch.zeros_like(weight)
        for own in self.factors.double():
            rows = weight[own.outputs]
            turned = rows + self.scale * own.B[0] @ own.A[0]
            gain = own.gain(rows, self.scale.double()[:, None, None])[0]
            change[own.outputs] = turned * gain[:, None] - rows
        return updated(self.linear, change)


def attach(
    backbone: nn.Module, parts: Adapting, rank: int = 8, scale: float = 1.0, target: str = "qv"
) -> None:
    """DoRA on q and v of every block, or on the fused qkv; `scale` is alpha / r elsewhere."""
    for i, site in enumerate(sites(backbone)):
        factors = [
            Factors(parts.trained, f"dora.{i}.{part}", int(rank), site.width, place)
            for part, place in outputs(target, site.width).items()
        ]
        site.block.attn.qkv = DoRALinear(site.block.attn.qkv, factors, scale)


fold = merge

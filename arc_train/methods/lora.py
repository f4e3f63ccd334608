"""LoRA (Hu et al., 2022) on the queries and values: W' = W + s B A for the rows of q and of v.

A [r, D] starts Kaiming-uniform, B [D, r] at zero, for q and v alike: the model starts as the
backbone and both can learn. (The V-PETL code draws q's B at random and leaves both of v's at zero,
so that v never learns.)
"""

import math

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.methods.folding import merge, updated
from arc_train.structure import sites
from arc_train.trials import by_trial


class LoRALinear(nn.Module):
    """A frozen fused qkv layer with low-rank updates of its q and v rows.

    `q_A`, `v_A` [T, r, D], `q_B`, `v_B` [T, D, r], `scale` [T].
    """

    q_A: nn.Parameter
    q_B: nn.Parameter
    v_A: nn.Parameter
    v_B: nn.Parameter
    scale: Tensor

    def __init__(self, linear: nn.Linear, matrices: dict[str, nn.Parameter], scale: float) -> None:
        super().__init__()
        self.linear = linear
        for name, matrix in matrices.items():
            setattr(self, name, matrix)
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, N, D] -> [T*B, N, 3D]."""
        rows = by_trial(x, self.q_A)
        scale = self.scale[:, None, None].to(rows.dtype)
        z = torch.bmm(rows, torch.cat([self.q_A, self.v_A], dim=1).mT)
        q, v = z.chunk(2, dim=-1)
        out: Tensor = self.linear(rows.view_as(x))
        width = out.shape[-1] // 3
        whole = out.view(len(rows), -1, 3, width)
        whole[:, :, 0] += torch.bmm(q, self.q_B.mT * scale)
        whole[:, :, 2] += torch.bmm(v, self.v_B.mT * scale)
        return out

    def folded(self) -> nn.Linear:
        """The plain layer with the same output."""
        q = self.scale.double() * (self.q_B[0].double() @ self.q_A[0].double())
        v = self.scale.double() * (self.v_B[0].double() @ self.v_A[0].double())
        return updated(self.linear, torch.cat([q, torch.zeros_like(q), v]))


def attach(backbone: nn.Module, parts: Adapting, rank: int = 8, scale: float = 1.0) -> None:
    """LoRA on q and v of every block; `scale` multiplies the update (alpha / r elsewhere)."""
    for i, site in enumerate(sites(backbone)):
        matrices = {}
        for part in ("q", "v"):
            a, b = f"lora.{i}.{part}.A", f"lora.{i}.{part}.B"
            bound = 1 / math.sqrt(site.width)  # Kaiming-uniform with a = sqrt(5)
            matrices[f"{part}_A"] = parts.trained.uniform(a, int(rank), site.width, bound=bound)
            matrices[f"{part}_B"] = parts.trained.zeros(b, site.width, int(rank))
        site.block.attn.qkv = LoRALinear(site.block.attn.qkv, matrices, scale)


fold = merge

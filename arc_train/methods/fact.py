r"""FacT (Jie and Deng, AAAI 2023): all updates of a network as one factored tensor.

A block's weights are cut into matrices [D, D]: q, k, v, the attention's projection, four of fc1 and
four of fc2. Each gets dW = s V K U with U [r, D] and V [D, r] shared by all blocks (in Swin: by
those of a stage), and a core K [r, r] of its own:

    TT: K is trained.
    TK: K^T (fc2: K) = sum_k C[:, :, k] P[k], with C [r, r, r] shared and P [r] of its own.

V starts at zero: the model starts as the backbone. The released TK reshapes the cores of fc1 and
fc2 in a way that mixes their four matrices; here each has its own, as in the paper, and only so can
ranks be padded. The paper trains with the backbone's drop path on, which is off here.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.dropout import SeededDropout
from arc_train.errors import InputError
from arc_train.methods.folding import merge, updated
from arc_train.methods.lora_xs import LAYERS
from arc_train.structure import sites
from arc_train.trials import by_trial


class TTCore(nn.Module):
    """Cores of their own: `S` [T, m, r, r]."""

    def __init__(self, cores: nn.Parameter) -> None:
        super().__init__()
        self.S = cores

    def forward(self) -> Tensor:
        """The cores [T, m, r, r] of a layer's m matrices."""
        return self.S


class TKCore(nn.Module):
    """Cores as mixtures: `C` [T, r, r, r] shared, `P` [T, m, r]."""

    def __init__(self, shared: nn.Parameter, mixture: nn.Parameter, transposed: bool) -> None:
        super().__init__()
        self.C, self.P = shared, mixture
        self.transposed = transposed

    def forward(self) -> Tensor:
        """The cores [T, m, r, r] of a layer's m matrices."""
        trials, count, rank = self.P.shape
        mixed = torch.bmm(self.P, self.C.flatten(1, 2).mT).view(trials, count, rank, rank)
        return mixed.mT if self.transposed else mixed


class FacTLinear(nn.Module):
    """A frozen layer of m matrices, above or beside each other, with their factored updates.

    `U` [T, r, D], `V` [T, D, r], `scale` [T].
    """

    scale: Tensor

    def __init__(
        self,
        linear: nn.Linear,
        u: nn.Parameter,
        v: nn.Parameter,
        core: nn.Module,
        dropout: SeededDropout,
        scale: float,
    ) -> None:
        super().__init__()
        self.linear, self.core, self.dropout = linear, core, dropout
        self.U, self.V = u, v
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., in] -> [T*B, ..., out]."""
        rows = by_trial(x, self.U)
        trials, count, into = rows.shape
        width, rank = self.V.shape[1:]
        z = torch.bmm(rows.view(trials, -1, width), self.U.mT)
        cores = self.core()
        if into == width:  # the same values for each matrix
            z = torch.bmm(z, cores.flatten(1, 2).mT).view(trials, -1, rank)
        else:  # the sum over the matrices
            z = torch.bmm(z.view(trials, count, -1), cores.mT.flatten(1, 2))
        scale = self.scale[:, None, None].to(rows.dtype)
        update = torch.bmm(self.dropout(z), self.V.mT * scale)
        out: Tensor = self.linear(rows.view_as(x))
        return out + update.view_as(out)

    def folded(self) -> nn.Linear:
        """The plain layer with the same output."""
        u, v = self.U[0].double(), self.V[0].double()
        matrices = v @ self.core.double()()[0] @ u
        above = self.linear.in_features == len(v)
        return updated(self.linear, self.scale * torch.cat(list(matrices), dim=0 if above else 1))


def attach_tt(
    backbone: nn.Module, parts: Adapting, rank: int = 16, scale: float = 1.0, dropout: float = 0.1
) -> None:
    """FacT-TT on all four layers of every block.

    Raises:
        InputError: a layer that can't be cut into matrices [D, D].
    """
    r, trained = int(rank), parts.trained

    def core(key: str, stage: int, matrices: int, last: bool) -> nn.Module:
        bound = 1 / math.sqrt(r * (matrices if last else 1))
        return TTCore(trained.uniform(f"{key}.S", matrices, r, r, bound=bound))

    _attach(backbone, parts, "fact_tt", r, scale, dropout, core)


def attach_tk(
    backbone: nn.Module, parts: Adapting, rank: int = 32, scale: float = 1.0, dropout: float = 0.1
) -> None:
    """FacT-TK on all four layers of every block.

    Raises:
        InputError: a layer that can't be cut into matrices [D, D].
    """
    r, trained = int(rank), parts.trained
    blocks = Counter(site.stage for site in sites(backbone))
    shared = {
        stage: trained.uniform(
            f"fact_tk.C{_of_stage(stage, blocks)}", r, r, r, bound=math.sqrt(3) / r
        )
        for stage in blocks
    }

    def core(key: str, stage: int, matrices: int, last: bool) -> nn.Module:
        bound = math.sqrt(6 / (r + 12 * blocks[stage]))
        mixture = trained.uniform(f"{key}.P", matrices, r, bound=bound)
        return TKCore(shared[stage], mixture, transposed=not last)

    _attach(backbone, parts, "fact_tk", r, scale, dropout, core)


fold = merge


def _attach(
    backbone: nn.Module,
    parts: Adapting,
    name: str,
    rank: int,
    scale: float,
    dropout: float,
    core: Callable[[str, int, int, bool], nn.Module],
) -> None:
    """core: (key, stage, how many matrices, whether they lie beside each other) -> its module."""
    trained, found = parts.trained, sites(backbone)
    blocks = Counter(site.stage for site in found)
    widths = {site.stage: site.width for site in found}
    shared = {
        stage: (
            trained.uniform(
                f"{name}.U{_of_stage(stage, blocks)}", rank, width, bound=1 / math.sqrt(width)
            ),
            trained.zeros(f"{name}.V{_of_stage(stage, blocks)}", width, rank),
        )
        for stage, width in widths.items()
    }
    for i, site in enumerate(found):
        for owner, layer in LAYERS:
            owning = getattr(site.block, owner)
            linear = getattr(owning, layer)
            sides = sorted((linear.in_features, linear.out_features))
            if sides[0] != site.width or sides[1] % site.width:
                raise InputError(
                    f"{name} cuts weights into squares of the width {site.width}; {layer} of block "
                    f"{i} has {linear.out_features} x {linear.in_features}"
                )
            own = core(f"{name}.{i}.{layer}", site.stage, sides[1] // site.width, layer == "fc2")
            factors = shared[site.stage]
            adapted = FacTLinear(linear, *factors, own, parts.dropout(dropout), scale)
            setattr(owning, layer, adapted)


def _of_stage(stage: int, stages: Mapping[int, int]) -> str:
    return f".stage{stage}" if len(stages) > 1 else ""

"""LoRA-XS (Banaei et al., 2024): W' = W + s B R A between frozen singular vectors of W.

W = U S V^T; A = S_r V_r^T [r, in], B = U_r [out, r], and only R [r, r] is trained. It adapts all
four layers of a block; timm's fused qkv is one matrix. R starts at a deviation of 1e-5, as
released. The factors follow from the backbone: an adapter's file needs no copy of them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from arc_train.adapting import Adapting
from arc_train.methods.folding import merge, updated
from arc_train.methods.frozen import frozen, within_rank
from arc_train.precision import original
from arc_train.structure import sites
from arc_train.trials import by_trial

STD = 1e-5
LAYERS = (("attn", "qkv"), ("attn", "proj"), ("mlp", "fc1"), ("mlp", "fc2"))
# How many singular vectors are kept of a weight, at least, for the trials and packs that follow.
KEPT = 64
_kept = WeakTensorKeyDictionary()  # weight -> (A, B) on the CPU


class LoRAXSLinear(nn.Module):
    """A frozen layer with frozen `down` [R, in] and `up` [out, R] and `core` [T, R, R] beside it.

    `rank`, `scale` [T].
    """

    rank: Tensor
    scale: Tensor

    def __init__(
        self,
        linear: nn.Linear,
        factors: tuple[nn.Parameter, nn.Parameter],
        core: nn.Parameter,
        rank: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.down, self.up = factors
        self.core = core
        self.register_buffer("rank", torch.tensor([float(rank)]), persistent=False)
        self.register_buffer("scale", torch.tensor([float(scale)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., in] -> [T*B, ..., out]."""
        rows = by_trial(x, self.core)
        z = torch.bmm(F.linear(rows, self.down), self.scaled_core().mT)
        out: Tensor = self.linear(rows.view_as(x))
        return out + F.linear(z, self.up).view_as(out)

    def scaled_core(self) -> Tensor:
        """s R, zero beyond each trial's rank: [T, R, R]."""
        mask = within_rank(self.rank, self.core.shape[-1])
        scale = mask[:, :, None] * mask[:, None] * self.scale[:, None, None]
        return self.core * scale.to(self.core.dtype)

    def folded(self) -> nn.Linear:
        """The plain layer with the same output."""
        return updated(
            self.linear, self.up.double() @ self.scaled_core()[0].double() @ self.down.double()
        )


def attach(backbone: nn.Module, parts: Adapting, rank: int = 16, scale: float = 1.0) -> None:
    """LoRA-XS on the four layers of every block; `scale` is alpha / r elsewhere."""
    rank = int(rank)
    for i, site in enumerate(sites(backbone)):
        for owner, name in LAYERS:
            owning = getattr(site.block, owner)
            linear = getattr(owning, name)
            down, up = (frozen(backbone, parts, f) for f in singular(linear.weight, rank))
            core = parts.trained.normal(f"lora_xs.{i}.{name}.R", rank, rank, std=STD)
            setattr(owning, name, LoRAXSLinear(linear, (down, up), core, rank, scale))


fold = merge


def singular(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [rank, in] and B [out, rank] of a weight [out, in], computed once for many trials.

    The largest entry of each column of B is positive, so that solvers agree on signs. Where the
    weight has fewer singular vectors, as a narrow layer may at a padded rank, zeros follow.
    """
    if weight not in _kept or _kept[weight][0].shape[0] < rank:
        _kept[weight] = _singular(original(weight).detach(), max(rank, KEPT))
    down, up = _kept[weight]
    return down[:rank], up[:, :rank]


def _singular(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """From the eigenvectors of W W^T or of W^T W, whichever is smaller, in float64."""
    exact = weight.double().cpu() if weight.device.type != "meta" else weight.double()
    out, into = exact.shape
    _, vectors = torch.linalg.eigh(exact @ exact.mT if out <= into else exact.mT @ exact)
    vectors = vectors.flip(1)[:, :rank]
    up = vectors if out <= into else F.normalize(exact @ vectors, dim=0)
    up = up * up.gather(0, up.abs().argmax(dim=0, keepdim=True)).sign()
    down = up.mT @ exact
    missing = rank - len(down)
    return F.pad(down, (0, 0, 0, missing)).float(), F.pad(up, (0, missing)).float()

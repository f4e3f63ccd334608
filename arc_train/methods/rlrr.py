"""RLRR (Dong et al., CVPR 2024), by ARC's authors: W' = W * (1 + l c^T), beta' = beta + f.

Every layer of a block gets a rank-one rescaling of its weight, with l [outputs, 1], c [k, D] and
f [outputs], and norms and patch embedding a scale and shift as in SSF. On a ViT q, k and v have a c
each (k = 3), on a Swin one together; there the patch merging is rescaled, too, and the embedding is
not. l and c are drawn Kaiming-uniform, as released: the model starts near the backbone, each weight
some 7 % off. What the code calls drop path is a dropout of elements, rising from block to block.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.adapting import Adapting
from arc_train.dropout import SeededDropout
from arc_train.methods.folding import merge, updated
from arc_train.methods.lora_xs import LAYERS
from arc_train.methods.ssf import STD, Scaled, shift_before
from arc_train.structure import is_swin, replace, sites
from arc_train.trials import by_trial


class Rescaled(nn.Module):
    """A frozen layer with `l` [T, out, 1], `c` [T, k, in], `f` [T, out]; a dropout after it."""

    def __init__(
        self, linear: nn.Linear, parts: Adapting, key: str, k: int, dropout: SeededDropout | None
    ) -> None:
        super().__init__()
        self.linear, self.dropout = linear, dropout
        out, into = linear.out_features, linear.in_features
        self.l = parts.trained.uniform(f"{key}.l", out, 1, bound=math.sqrt(6))
        self.c = parts.trained.uniform(f"{key}.c", k, into, bound=math.sqrt(6 / into))
        self.f = parts.trained.zeros(f"{key}.f", out)

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ..., in] -> [T*B, ..., out]."""
        rows = by_trial(x, self.c)
        weights = self.linear.weight.chunk(self.c.shape[1])
        turned = torch.cat(
            [F.linear(rows * self.c[:, None, j], weight) for j, weight in enumerate(weights)],
            dim=-1,
        )
        out: Tensor = self.linear(rows.view_as(x))
        update = torch.addcmul(self.f[:, None], turned, self.l.mT)
        y = out.view_as(update) + update
        return (y if self.dropout is None else self.dropout(y)).view_as(out)

    def folded(self) -> nn.Linear:
        """The plain layer with the same output (dropout off)."""
        weight, left, c = (x.double() for x in (self.linear.weight, self.l[0], self.c[0]))
        plain = updated(
            self.linear, weight * (left * c.repeat_interleave(len(left) // len(c), dim=0))
        )
        shift = self.f[0] if plain.bias is None else plain.bias + self.f[0]
        plain.bias = nn.Parameter(shift.to(plain.weight.dtype))
        return plain


def attach(backbone: Any, parts: Adapting, dropout: float = 0.1) -> None:
    """RLRR on every layer of every block; dropout: the rate of the last block."""
    swin, found = is_swin(backbone), sites(backbone)
    scaled = [] if swin else ["patch_embed.proj"]
    paths = {id(module): path for path, module in backbone.named_modules()}
    for i, site in enumerate(found):
        scaled += [paths[id(norm)] for norm in (site.block.norm1, site.block.norm2)]
        rate = dropout * i / max(1, len(found) - 1)
        for owner, name in LAYERS:
            owning = getattr(site.block, owner)
            k = 3 if name == "qkv" and not swin else 1
            last = parts.dropout(rate) if name in ("proj", "fc2") else None
            layer = Rescaled(getattr(owning, name), parts, f"rlrr.{i}.{name}", k, last)
            setattr(owning, name, layer)
    for path, module in list(backbone.named_modules()):
        if path.endswith(".downsample.reduction"):
            replace(backbone, path, Rescaled(module, parts, f"rlrr.{path}", 1, None))
    for name in ("norm", "fc_norm"):
        if getattr(getattr(backbone, name, None), "weight", None) is not None:
            scaled.append(name)
    for path in scaled:
        operation: Any = backbone.get_submodule(path)
        channels = operation.weight.shape[0]
        scale = parts.trained.normal(f"rlrr.{path}.scale", channels, std=STD, mean=1.0)
        shift = parts.trained.normal(f"rlrr.{path}.shift", channels, std=STD)
        replace(backbone, path, Scaled(operation, scale, shift, parts.trials))


def fold(backbone: nn.Module) -> None:
    """Merge everything into the layers; timm's patch merging has no bias, but its norm has one."""
    merge(backbone)
    for path, module in backbone.named_modules():
        if path.endswith(".downsample"):
            shift_before(module)

"""SSF (Lian et al., NeurIPS 2022): y -> y * scale + shift per channel after every operation.

After the patch embedding, both norms, qkv, the attention's projection, fc1 (before GELU), fc2 and
the final norm; in a Swin also after the patch embedding's norm and in patch merging. Drawn around
(1, 0) with deviation 0.02, as released, so it starts slightly off the identity. All of it folds.
"""

from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.structure import is_swin, replace, sites
from arc_train.trials import Trials, per_channel

STD = 0.02


class Scaled(nn.Module):
    """A frozen operation followed by its `scale` [T, C] and `shift` [T, C] on the channels."""

    def __init__(
        self, operation: nn.Module, scale: nn.Parameter, shift: nn.Parameter, trials: Trials
    ) -> None:
        super().__init__()
        self.operation = operation
        self.scale, self.shift = scale, shift
        self.trials = trials
        self.behind = 2 if isinstance(operation, nn.Conv2d) else 0  # axes behind the channels

    def forward(self, x: Tensor) -> Tensor:
        """What the operation takes -> its output [T*B, ..., C] or [T*B, C, H, W], adapted."""
        y: Tensor = self.trials.widen(self.operation(x))
        rows = y.view(len(self.scale), -1, *y.shape[1:])
        scale, shift = (per_channel(x, rows, self.behind) for x in (self.scale, self.shift))
        return torch.addcmul(shift, rows, scale).flatten(0, 1)

    def folded(self) -> nn.Module:
        """The operation with scale and shift in its own weight and bias."""
        weight: Tensor = self.operation.weight  # type: ignore[assignment]
        bias: Tensor | None = getattr(self.operation, "bias", None)
        scale, shift = self.scale[0], self.shift[0]
        column = scale.view(-1, *(1,) * (weight.ndim - 1))
        self.operation.weight = nn.Parameter(weight * column)
        self.operation.bias = nn.Parameter(shift if bias is None else bias * scale + shift)
        return self.operation


def attach(backbone: nn.Module, parts: Adapting) -> None:
    """Scale and shift after every operation of the backbone."""
    for path in _operations(backbone):
        operation: Any = backbone.get_submodule(path)
        channels = operation.weight.shape[0]
        scale = parts.trained.normal(f"ssf.{path}.scale", channels, std=STD, mean=1.0)
        shift = parts.trained.normal(f"ssf.{path}.shift", channels, std=STD)
        replace(backbone, path, Scaled(operation, scale, shift, parts.trials))


def fold(backbone: nn.Module) -> None:
    """Merge every scale and shift into the operation before it."""
    for path, module in list(backbone.named_modules()):
        if isinstance(module, Scaled):
            plain = module.folded()
            replace(backbone, path, plain)
            if path.endswith(".downsample.reduction"):
                shift_before(backbone.get_submodule(path.removesuffix(".reduction")))


def shift_before(merging: Any) -> None:
    """Take the bias off a Swin's patch merging, in place: timm's reduction has none.

    Its weight is wide, so the norm before it can be shifted by what the reduction maps to the
    wanted shift: the smallest such vector, exact in exact arithmetic.
    """
    reduction = getattr(merging, "reduction", None)
    if reduction is None or reduction.bias is None:
        return
    shift, weight = reduction.bias.double(), reduction.weight.double()
    merging.norm.bias.add_(
        torch.linalg.lstsq(weight, shift[:, None], driver="gelsd").solution[:, 0]
    )
    reduction.bias = None


def _operations(backbone: Any) -> list[str]:
    """timm's names of the operations that are scaled, in execution order."""
    names = {id(module): name for name, module in backbone.named_modules()}
    found = [backbone.patch_embed.proj, getattr(backbone.patch_embed, "norm", None)]
    merged: set[int] = set()
    for site in sites(backbone):
        if is_swin(backbone) and site.stage not in merged:
            merged.add(site.stage)
            merging = backbone.layers[site.stage].downsample
            found += [getattr(merging, "norm", None), getattr(merging, "reduction", None)]
        block = site.block
        found += [block.norm1, block.attn.qkv, block.attn.proj]
        found += [block.norm2, block.mlp.fc1, block.mlp.fc2]
    found += [getattr(backbone, "norm", None), getattr(backbone, "fc_norm", None)]
    return [names[id(module)] for module in found if getattr(module, "weight", None) is not None]

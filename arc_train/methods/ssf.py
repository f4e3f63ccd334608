"""SSF (Lian et al., NeurIPS 2022): y -> y * scale + shift per channel after every operation.

After the patch embedding, both norms, qkv, the attention's projection, fc1 (before GELU), fc2 and
the final norm; in a Swin also after the patch embedding's norm and in patch merging. Drawn around
(1, 0) with deviation 0.02, as released, so it starts slightly off the identity. All of it folds.
"""

from typing import Any

import torch
from torch import Tensor, nn

from arc_train.structure import is_swin, sites

STD = 0.02


class ScaleShift(nn.Module):
    """`scale` [C] and `shift` [C] on the channels: the last axis, or axis 1 of [B, C, H, W]."""

    def __init__(self, channels: int, axis: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + STD * torch.randn(channels, generator=generator))
        self.shift = nn.Parameter(STD * torch.randn(channels, generator=generator))
        self.axis = axis

    def forward(self, y: Tensor) -> Tensor:
        """y [..., C] or [B, C, H, W] -> the same shape."""
        if self.axis == 1:
            return y * self.scale[:, None, None] + self.shift[:, None, None]
        return y * self.scale + self.shift


class Scaled(nn.Module):
    """A frozen operation followed by its scale and shift."""

    def __init__(self, operation: nn.Module, ssf: ScaleShift) -> None:
        super().__init__()
        self.operation = operation
        self.ssf = ssf

    def forward(self, x: Tensor) -> Tensor:
        """What the operation takes -> its output, scaled and shifted."""
        out: Tensor = self.ssf(self.operation(x))
        return out

    def folded(self) -> nn.Module:
        """The operation with scale and shift in its own weight and bias."""
        weight: Tensor = self.operation.weight  # type: ignore[assignment]
        bias: Tensor | None = getattr(self.operation, "bias", None)
        scale, shift = self.ssf.scale, self.ssf.shift
        shape = (-1,) + (1,) * (weight.ndim - 1)
        self.operation.weight = nn.Parameter(weight * scale.view(shape))
        self.operation.bias = nn.Parameter(shift if bias is None else bias * scale + shift)
        return self.operation


def attach(backbone: nn.Module, generator: torch.Generator | None) -> dict[str, nn.Module]:
    """Scale and shift after every operation of the backbone."""
    tree = nn.Module()
    for path in _operations(backbone):
        operation: Any = backbone.get_submodule(path)
        channels = operation.weight.shape[0]
        ssf = ScaleShift(channels, 1 if isinstance(operation, nn.Conv2d) else -1, generator)
        _put(tree, path, ssf)
        _put(backbone, path, Scaled(operation, ssf))
    return {"ssf": tree}


def fold(model: Any) -> None:
    """Merge every scale and shift into the operation before it."""
    for path, module in list(model.backbone.named_modules()):
        if isinstance(module, Scaled):
            plain = module.folded()
            if path.endswith(".downsample.reduction"):
                _shift_through_norm(model.backbone.get_submodule(path.removesuffix(".reduction")))
            else:
                _put(model.backbone, path, plain)


def _shift_through_norm(merging: Any) -> None:
    """Fold a Swin's patch merging, whose reduction has no bias in timm.

    Its weight is wide, so the norm before it can be shifted by what the reduction maps to the
    wanted shift: the smallest such vector, exact in exact arithmetic.
    """
    scaled = merging.reduction
    shift = scaled.operation.bias.double()
    weight = scaled.operation.weight.double()
    merging.norm.bias.add_(
        torch.linalg.lstsq(weight, shift[:, None], driver="gelsd").solution[:, 0]
    )
    scaled.operation.bias = None
    merging.reduction = scaled.operation


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


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Set a module at a dotted path, making the modules on the way."""
    *parents, last = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = getattr(root, parent)
    setattr(root, last, module)

"""Precision, written out: what is computed in which type. Nothing is cast behind the model's back.

Frozen weights have the compute type (bfloat16 on a GPU, else float32), and a frozen product casts
what enters it. So a norm computes in float32 and hands that on, an adapter behind it adds to it in
float32, and the sum is rounded once, at the next product. The residual stream has a type of its
own. Trained tensors, gradients and the optimiser's state are float32; a step casts the trained
tensors once.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from arc_train.structure import entrances

# Chosen by benchmarks/precision.py: in bfloat16 logits move further than under torch's casting.
STREAM = torch.float32
# Names of attributes: of a cast weight, as it was; of a backbone, the type it was set to.
ORIGINAL, COMPUTE_TYPE = "original", "compute_type"
PRODUCTS = (nn.Linear, nn.Conv2d)
M = TypeVar("M", bound=nn.Module)


def compute_type(device: torch.device) -> torch.dtype:
    """The type that a device computes frozen layers in."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def type_of(backbone: nn.Module) -> torch.dtype:
    """The compute type that a backbone was set to, else the type of its weights."""
    dtype: torch.dtype = getattr(backbone, COMPUTE_TYPE, next(backbone.parameters()).dtype)
    return dtype


def set_precision(backbone: M, compute: torch.dtype, stream: torch.dtype = STREAM) -> M:
    """Set a frozen backbone's types, in place, once; in float32 or float64 it stays as it is."""
    if type_of(backbone) == compute:
        return backbone
    for name, module in backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(_Takes(torch.float32))
            if name.endswith(("q_norm", "k_norm")):  # meets the values, which a product gave
                module.register_forward_hook(_Gives(compute))
        elif name and not name.startswith("rope"):  # tokens and positions stay exact
            _cast(module, compute)
        if isinstance(module, PRODUCTS):
            module.register_forward_pre_hook(_Takes(compute))
    for module in entrances(backbone):
        module.register_forward_hook(_Gives(stream))
    setattr(backbone, COMPUTE_TYPE, compute)
    return backbone


def original(weight: Tensor) -> Tensor:
    """A frozen weight as it was before it was cast."""
    tensor: Tensor = getattr(weight, ORIGINAL, weight)
    return tensor


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast the floating-point tensors that the module itself holds."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.is_floating_point():
            exact = tensor.data
            tensor.data = exact.to(dtype)
            setattr(tensor, ORIGINAL, exact.cpu())  # for methods that train it


class _Takes:
    """A hook that casts a module's input."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].to(self.dtype), *inputs[1:])


class _Gives:
    """A hook that casts a module's output."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.to(self.dtype)

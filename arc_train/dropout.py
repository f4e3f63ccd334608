"""Dropout whose mask is a function of (seed, layer, position), not of a generator's state.

In a pack each trial brings its own `seed` and `rate`, so a trial drops the same units alone, in any
pack, in any chunk, at any padded width, and after a resume.
"""

import torch
from torch import Tensor, nn

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """Integer hash of 32-bit values held in int64 (two multiply-xorshift rounds)."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


class SeededDropout(nn.Module):
    """Zeroes elements of [..., C] with probability `rate` while training, scaling the rest up.

    Buffers `rate` (float scalar) and `seed` (int64 scalar) can be swapped per trial under
    `torch.func.functional_call`. With `self.draws_seed` (the default, for ordinary training
    loops) each call draws a fresh seed from torch's global generator instead.
    """

    rate: Tensor
    seed: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be in [0, 1), got {rate}")
        self.register_buffer("rate", torch.tensor(float(rate)), persistent=False)
        self.register_buffer("seed", torch.tensor(0, dtype=torch.int64), persistent=False)
        self.draws_seed = True
        self.active = rate > 0

    def forward(self, x: Tensor, layer: int) -> Tensor:
        """x [..., C] -> [..., C]; `layer` sets apart the places that share this module."""
        if not (self.training and self.active):
            return x
        seed = self.seed
        if self.draws_seed:
            seed = torch.randint(2**32, (), device=x.device)
        rows = torch.arange(x[..., 0].numel(), device=x.device).view(*x.shape[:-1], 1)
        columns = torch.arange(x.shape[-1], device=x.device)
        key = _mix((seed + layer * 0x9E3779B1) & _MASK)
        # The column's stride is a constant, so that padding to a wider rank moves no draw.
        draws = _mix(_mix((rows * 8191 + columns) & _MASK) ^ key)
        keep = draws >= (self.rate * 2.0**32)
        return x * keep / (1 - self.rate)

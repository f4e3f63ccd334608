"""Factors that a method freezes: drawn from seeds of their own, or taken from the weights.

The trials of a pack share them at the pack's largest rank R, where a smaller rank r uses the first
r rows. Zero padding of what is trained would not be a fixed point here, since the factors beside
the padding aren't zero; a mask makes it one.
"""

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.precision import type_of
from arc_train.seeding import generator


def frozen(backbone: nn.Module, parts: Adapting, value: Tensor) -> nn.Parameter:
    """A tensor that is not trained and has no trial dimension, in the backbone's compute type."""
    device, dtype = parts.trained.device, type_of(backbone)
    return nn.Parameter(value.to(device, dtype), requires_grad=False)


def projection(*address: object, rows: int, columns: int) -> Tensor:
    """Uniform draws from -1 to 1, [rows, columns], the same for an address on every machine.

    Drawn on the CPU in float32, row by row: the first rows of a larger projection are the smaller.
    """
    draws = torch.rand(
        rows,
        columns,
        generator=generator("projection", *address),
        dtype=torch.float32,
        device="cpu",
    )
    return draws * 2 - 1


def within_rank(rank: Tensor, padded: int) -> Tensor:
    """Ranks [T] -> [T, padded], 1 in the first `rank` places of each trial, else 0."""
    places = torch.arange(padded, device=rank.device)
    return (places < rank[:, None]).to(rank.dtype)

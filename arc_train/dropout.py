"""Dropout whose mask is a function of (seed, place, row, column), not of a generator's state.

Each trial of a pack has its own seed and rate, so a trial drops the same units alone, in any pack,
in any chunk, at any padded width, and after a resume. A row's key is an odd hash of seed and
row, computed once a step; a column's key is one of place and column, computed once. An element's
bits are their product: for any two columns the rows' products fill the square evenly, as those of a
multiplicative generator do. All arithmetic is int32 and wraps around.
"""

import math

import torch
from torch import Tensor, nn

# Odd 32-bit multipliers with well-spread bits, written as int32.
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B - 2**32)
_ROWS, _PLACES = 0x9E3779B1 - 2**32, 0x85EBCA6B - 2**32


def _mix(x: Tensor) -> Tensor:
    """An integer hash: two rounds of shift, xor and multiplication. Works in place."""
    for multiplier in _MULTIPLIERS:
        x = _fold(x, 16).mul_(multiplier)
    return _fold(x, 15)


def _fold(x: Tensor, bits: int) -> Tensor:
    """x xor its upper bits, shifted down; masked, since int32 drags its sign along."""
    return x.bitwise_xor_((x >> bits) & (2 ** (32 - bits) - 1))


class Noise:
    """The randomness of one training step, shared by all dropouts of a model.

    seeds: int32 [T], one for each trial. A pack sets them before each step; otherwise each pass
    draws them from torch's global generator, if it drops anything at all.
    """

    def __init__(self) -> None:
        self.seeds: Tensor | None = None
        self._drawn: Tensor | None = None
        self._shape: tuple[int, torch.device] = (1, torch.device("cpu"))
        self._rows: dict[int, Tensor] = {}
        self._numbers = torch.empty(0, dtype=torch.int32)

    def begin(self, trials: int, device: torch.device) -> None:
        """A pass of T trials begins."""
        self._shape, self._drawn = (trials, device), None
        self._rows.clear()

    def _current(self) -> Tensor:
        if self.seeds is not None:
            return self.seeds
        if self._drawn is None:
            trials, device = self._shape
            draws = torch.randint(-(2**31), 2**31, (trials,), device=device)
            self._drawn = draws.to(torch.int32)
        return self._drawn

    def rows(self, count: int) -> Tensor:
        """The keys of a trial's rows, int32 [T, count, 1]."""
        if torch.compiler.is_compiling():  # fused into the mask: nothing to keep
            return self._keys(count)
        if count not in self._rows:
            self._rows[count] = self._keys(count)
        return self._rows[count]

    def _keys(self, count: int) -> Tensor:
        seeds = self._current()
        rows = self._counted(count, seeds.device) * _ROWS
        return (_mix(seeds[:, None] + rows) | 1)[:, :, None]

    def _counted(self, count: int, device: torch.device) -> Tensor:
        """0, 1, 2, ..., int32 [count], as numbers that lie in memory.

        Compiled code has an arange in the type of its indices, whatever is asked for. Where those
        are of 64 bits (torch 2.11, sizes that vary), a hash made from them would not wrap around.
        """
        if len(self._numbers) < count or self._numbers.device != device:
            self._numbers = torch.arange(count, dtype=torch.int32, device=device)
        return self._numbers[:count]


class SeededDropout(nn.Module):
    """Zeroes elements with a probability of `rate` while training and scales the others up.

    Args:
        place: sets apart the places of a model, which share `noise`.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    threshold: Tensor
    scale: Tensor
    place: Tensor

    def __init__(self, rate: float, noise: Noise, place: int) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be in [0, 1), got {rate}")
        self.noise = noise
        self.active = rate > 0
        # Of a trial, [T]: below which hash a unit is dropped, and what the others grow by.
        self.register_buffer("threshold", torch.tensor([(rate - 0.5) * 2.0**32]), persistent=False)
        self.register_buffer("scale", torch.tensor([1 / (1 - rate)]), persistent=False)
        self.register_buffer("place", torch.tensor(place, dtype=torch.int32), persistent=False)
        self._columns = torch.empty(0, dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, rows, C] -> [T, rows, C]."""
        if not (self.training and self.active):
            return x
        bits = self.noise.rows(x.shape[1]) * self._column_keys(x)
        keep = bits >= self.threshold[:, None, None]
        return x * (keep * self.scale.to(x.dtype)[:, None, None])

    def _column_keys(self, x: Tensor) -> Tensor:
        """The keys of the columns, int32 [C]."""
        if len(self._columns) == x.shape[-1] and self._columns.device == x.device:
            return self._columns
        columns = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
        keys = _mix(_mix(columns + self.place * _PLACES) + columns) | 1
        if not torch.compiler.is_compiling():
            self._columns = keys
        return keys


class SeededDropPath(SeededDropout):
    """Zeroes what is added for whole images (Huang et al., 2016) and scales the others up."""

    def forward(self, x: Tensor) -> Tensor:
        """x [T, images, ...] -> the same shape."""
        return super().forward(x.flatten(2)).view_as(x)

    def _column_keys(self, x: Tensor) -> Tensor:
        """One key for all of an image, int32 [1]."""
        return super()._column_keys(x[..., :1])


class SeededNormal(SeededDropout):
    """Adds normal noise while training, by Box and Muller's transform of two hashes an element."""

    def __init__(self, noise: Noise, place: int) -> None:
        super().__init__(0.0, noise, place)
        self.active = True

    def sample(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """A sample [T, rows, C] around the mean, or the mean itself outside training."""
        if not (self.training and self.active):
            return mean
        rows, columns = self.noise.rows(mean.shape[1]), self._column_keys(mean)
        radius, angle = (
            (bits.float() / 2**32 + 0.5).clamp_min(2.0**-33)
            for bits in (rows * columns, rows * (_mix(columns + _PLACES) | 1))
        )
        normal = (-2 * radius.log()).sqrt() * torch.cos(2 * math.pi * angle)
        return mean + normal.to(mean.dtype) * deviation

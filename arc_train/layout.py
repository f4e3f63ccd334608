"""How the trained tensors of a trial lie in a row of a matrix: padded, flattened, one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Layout:
    """The columns of a row [P].

    shapes: of each tensor, padded to the largest of all trials'. own: of each trial, without.
    """

    def __init__(
        self, states: Sequence[Mapping[str, Tensor]], padded: Mapping[str, Tensor]
    ) -> None:
        self.own = [{name: tensor.shape for name, tensor in state.items()} for state in states]
        self.shapes = {
            name: _largest([tensor.shape, *(shapes[name] for shapes in self.own)])
            for name, tensor in padded.items()
        }
        self._sizes = [shape.numel() for shape in self.shapes.values()]

    def rows(self, states: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """The tensors of some trials as rows [T, P], float32, or float64 where they are."""
        rows = torch.stack([self._row(state) for state in states])
        return rows if rows.dtype == torch.float64 else rows.float()

    def _row(self, state: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, shape in self.shapes.items():
            pad = [p for a, b in zip(shape, state[name].shape, strict=True) for p in (a - b, 0)]
            parts.append(F.pad(state[name].detach(), pad[::-1]).flatten())
        return torch.cat(parts)

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [T, P] -> the tensors [T, ...] that lie in them, padded."""
        parts = torch.split(rows, self._sizes, dim=1)
        return {
            name: part.view(len(rows), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def cut(self, trial: int) -> dict[str, tuple[slice, ...]]:
        """What to take of each padded tensor of one trial."""
        return {name: tuple(map(slice, shape)) for name, shape in self.own[trial].items()}

    def keep(self, trials: Sequence[int]) -> None:
        """Keep these trials only."""
        self.own = [self.own[i] for i in trials]

    def vectors(self) -> Tensor:
        """[P], 1 in the columns of one-dimensional tensors, else 0."""
        parts = [torch.full((s.numel(),), float(len(s) == 1)) for s in self.shapes.values()]
        return torch.cat(parts)

    def columns(self) -> list[list[Any]]:
        """The layout as plain data: two packs with the same have rows that mean the same."""
        return [[name, list(shape)] for name, shape in self.shapes.items()]


def _largest(shapes: Sequence[torch.Size]) -> torch.Size:
    return torch.Size(map(max, zip(*shapes, strict=True)))

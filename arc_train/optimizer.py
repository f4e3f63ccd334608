"""AdamW on a matrix [T, P] with a row for each trial: clipping and divergence are by row too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


@dataclass(frozen=True)
class Schedule:
    """What some consecutive steps need beside their batches, a row for each, on the device.

    clocks: float64 [S, 4], see `clocks`. seeds: of dropout, int32 [S, T].
    """

    clocks: Tensor
    seeds: Tensor


def clocks(lr_scales: Sequence[float], first_step: int) -> Tensor:
    """What changes from step to step, ahead of time, in double precision; steps count from 1.

    Returns:
        [S, 4]: the schedule's factor on each lr, both bias corrections, the number of the step.
    """
    rows = [
        [scale, *(1 - beta**step for beta in BETAS), step]
        for step, scale in enumerate(lr_scales, start=first_step)
    ]
    return torch.tensor(rows, dtype=torch.float64)


class AdamW:
    """The optimiser's state for T trials, and its step (Loshchilov and Hutter, 2019).

    m, v: [T, P]. lr, weight_decay: [T, 1]. decayed: [P] or [1], 1 where decay acts.
    failed: int64 [T], the step at which loss or gradient was first not finite, or 0.
    """

    def __init__(
        self,
        rows: Tensor,
        lr: Sequence[float],
        decay: Sequence[float],
        decayed: Tensor,
        clip: float,
    ) -> None:
        self.m, self.v = torch.zeros_like(rows), torch.zeros_like(rows)
        self.lr, self.weight_decay = (
            torch.tensor(values, dtype=rows.dtype, device=rows.device)[:, None]
            for values in (lr, decay)
        )
        self.failed = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        self.decayed = decayed.to(rows)
        self.clip = clip

    def step(self, rows: Tensor, gradients: Tensor, losses: Tensor, clock: Tensor) -> None:
        """Update rows in place.

        gradients: [T, P]. losses: [T], before the step. clock: [4], a row of `clocks`.
        """
        norms = gradients.norm(dim=1, keepdim=True)
        both = norms[:, 0] + losses
        broken = (both - both).isnan() & (self.failed == 0)  # not a number, or infinite
        self.failed += broken * clock[3].to(torch.int64)
        scale, first, second, _ = clock.to(rows.dtype)
        gradients = gradients * (self.clip / (norms + 1e-6)).clamp(max=1.0)
        lr = self.lr * scale
        rows.mul_(1 - lr * self.weight_decay * self.decayed)
        self.m.lerp_(gradients, 1 - BETAS[0])
        self.v.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
        denominator = (self.v / second).sqrt_().add_(EPS)
        rows.sub_(lr / first * self.m / denominator)

    def keep(self, index: Tensor) -> None:
        """Keep these trials only."""
        for name in ("m", "v", "lr", "weight_decay", "failed"):
            setattr(self, name, getattr(self, name)[index])

    def state_dict(self) -> dict[str, Any]:
        """The moments."""
        return {"m": self.m, "v": self.v}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.m, self.v = (state[name].to(self.m) for name in ("m", "v"))

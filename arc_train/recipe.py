"""How every trial of a sweep is trained: epochs, schedule, and the rungs that thin a pack."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How every trial of a sweep is trained.

    Linear warm-up over `warmup_epochs`, then cosine to `final_lr` of each trial's lr, per step;
    global gradient norm clipped at `clip`. (The published code's first step has lr 0 and its last
    epoch ends a step early; here every step counts.)
    """

    epochs: int
    batch_size: int = 32
    warmup_epochs: float = 10
    final_lr: float = 1e-6
    clip: float = 1.0

    def lr_scale(self, step: int, steps: int) -> float:
        """Factor on the lr at a 0-based step out of `steps`."""
        warmup = round(steps * self.warmup_epochs / self.epochs)
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Halving:
    """Successive halving inside a pack: at epochs start, start*eta, ... only 1/eta go on.

    most: rungs, at most; whoever is left after these goes to the end.
    """

    start: int
    eta: int
    most: int | None = None

    def rungs(self, epochs: int) -> list[int]:
        """The rungs before the last epoch."""
        rungs, rung = [], self.start
        while rung < epochs:
            rungs.append(rung)
            rung *= self.eta
        return rungs[: self.most]


HALVING = Halving(start=20, eta=2)  # of 100 epochs, where nothing else is asked for

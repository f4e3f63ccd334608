"""PVeRA (Fillioux et al., WACV 2026): VeRA whose r values are sampled while it trains.

    mean, log variance = d * (A x),  both [r];   z = mean + noise exp(log variance / 2)

d and A have two halves; W' = W + s diag(b) B applied to z. Outside training z is the mean, so that
it folds as VeRA does. The authors' code adds a divergence from the standard normal distribution to
the loss, with a weight between 1e-6 and 1e-16; here, as in peft, there is none.
"""

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.dropout import SeededNormal
from arc_train.methods.folding import merge
from arc_train.methods.fused import outputs
from arc_train.methods.vera import D_INITIAL, Vectors, VeRALinear, placed


class SampledVectors(Vectors):
    """As of VeRA, but `d` [T, 2, R] has a half for the mean and one for the log variance."""

    def __init__(
        self, d: nn.Parameter, b: nn.Parameter, outputs: slice, noise: SeededNormal
    ) -> None:
        super().__init__(d, b, outputs)
        self.noise = noise


class PVeRALinear(VeRALinear):
    """As VeRA's, but `down` [2R, D] has two halves and what passes between is sampled."""

    def latent(self, z: Tensor, own: SampledVectors, gain: Tensor) -> Tensor:  # type: ignore[override]
        """z [T, rows, 2R], gain [T, R] -> [T, rows, R]."""
        mean, log_variance = (z.view(*z.shape[:2], 2, -1) * own.d[:, None]).unbind(2)
        return own.noise.sample(mean, (log_variance / 2).exp()) * gain[:, None]


def attach(
    backbone: nn.Module, parts: Adapting, rank: int = 256, scale: float = 1.0, target: str = "qv"
) -> None:
    """PVeRA on q and v, or on the fused qkv; the authors' code has a scale of 16."""
    rank, trained = int(rank), parts.trained
    halves = ("A", "A of the log variance")
    for i, site, projections in placed(backbone, parts, *halves, rank=rank, target=target):
        vectors = [
            SampledVectors(
                trained.add(f"pvera.{i}.{part}.d", torch.full((2, rank), D_INITIAL)),
                trained.zeros(f"pvera.{i}.{part}.b", place.stop - place.start),
                place,
                parts.normal(),
            )
            for part, place in outputs(target, site.width).items()
        ]
        linear = site.block.attn.qkv
        site.block.attn.qkv = PVeRALinear(linear, *projections, vectors, rank, scale)


fold = merge

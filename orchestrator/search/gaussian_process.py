"""What a study may expect of a configuration, from its own trials and those of other studies.

A Gaussian process over all trials of one method. Study s measures

    y_s(x) = b_s + f(x) + g_s(x) + noise

where b_s is how hard its task is, f what all studies share, and g_s what is its own. Without
trials of its own a study expects what did well elsewhere; with every trial its own part gains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

Array = NDArray[np.float64]

# Variance of b_s in units of that of f + g_s: tasks differ more than configurations do.
OFFSET = 4.0
# Where the search for hyperparameters starts, and what few trials leave them near: length scale of
# each dimension of the unit cube, share of g_s, noise (relative to f + g_s).
SCALE, OWN, NOISE = 0.8, 0.5, 0.1
FIT_POINTS = 200  # trials that hyperparameters are fitted to
POINTS = 400  # trials that expectations are computed from


@dataclass
class Belief:
    """Expected accuracy of some candidates in one study.

    mean: [M], in points around the study's mean. covariance: [M, M], without noise. noise: variance
    of a measurement. best: highest value that the study has measured (or will, see `assume`).
    """

    mean: Array
    covariance: Array
    noise: float
    best: float

    def improvement(self) -> Array:
        """Expected improvement [M] on `best`. Noise counts: winners are chosen by measurement."""
        deviation = np.sqrt(np.clip(self.covariance.diagonal(), 0, None) + self.noise)
        z = (self.mean - self.best) / deviation
        gain: Array = deviation * (z * norm.cdf(z) + norm.pdf(z))
        return gain

    def assume(self, index: int) -> None:
        """Take a candidate as tried, with the result that is expected of it."""
        row = self.covariance[index].copy()
        self.covariance -= np.outer(row, row) / (row[index] + self.noise)
        self.best = max(self.best, float(self.mean[index]))


def believe(points: Array, values: Array, studies: NDArray[np.int64], candidates: Array) -> Belief:
    """What study 0 may expect of candidates [M, D], given trials of any studies.

    points: [N, D] in the unit cube, N >= 1. values: [N], each study's around a mean of its own.
    studies: [N], 0 for the study that asks.
    """
    kept = _some(len(values), POINTS, first=np.flatnonzero(studies == 0))
    points, values, studies = points[kept], values[kept], studies[kept]
    scales, own, noise = _fit(points, values, studies)
    here = np.zeros(len(candidates), dtype=np.int64)
    among = _kernel(points, studies, points, studies, scales, own)
    factor = cho_factor(among + noise * np.eye(len(values)), lower=True)
    variance = max(float(values @ cho_solve(factor, values)) / len(values), 1e-6)
    across = _kernel(candidates, here, points, studies, scales, own)
    prior = _kernel(candidates, here, candidates, here, scales, own)
    asked = values[studies == 0]
    return Belief(
        mean=across @ cho_solve(factor, values),
        covariance=variance * (prior - across @ cho_solve(factor, across.T)),
        noise=variance * noise,
        best=float(asked.max()) if len(asked) else -np.inf,
    )


def _kernel(
    a: Array, of_a: NDArray[np.int64], b: Array, of_b: NDArray[np.int64], scales: Array, own: float
) -> Array:
    """Prior covariance between points of studies, Matern 3/2, in units of var(f + g_s)."""
    same = of_a[:, None] == of_b[None, :]
    similar, _ = _matern((a[:, None, :] - b[None, :, :]) ** 2, scales)
    covariance: Array = similar * (1 - own + own * same) + OFFSET * same
    return covariance


def _matern(gaps: Array, scales: Array) -> tuple[Array, Array]:
    """Correlation at squared differences [N, M, D], and the exponential in it."""
    distance = np.sqrt(3 * (gaps / scales**2).sum(axis=-1))
    decay = np.exp(-distance)
    return (1 + distance) * decay, decay


def _fit(points: Array, values: Array, studies: NDArray[np.int64]) -> tuple[Array, float, float]:
    """Length scales [D], share of g_s and noise, by maximum a posteriori."""
    kept = _some(len(values), FIT_POINTS, first=np.flatnonzero(studies == 0))
    points, values, studies = points[kept], values[kept], studies[kept]
    dimensions = points.shape[1]
    start = np.array([np.log(SCALE)] * dimensions + [np.log(OWN / (1 - OWN)), np.log(NOISE)])
    gaps = (points[:, None, :] - points[None, :, :]) ** 2
    same = studies[:, None] == studies[None, :]

    def loss(x: Array) -> tuple[float, Array]:
        """Negative log posterior at the best overall variance, and its gradient."""
        scales, own, noise = np.exp(x[:dimensions]), expit(x[-2]), np.exp(x[-1])
        similar, decay = _matern(gaps, scales)
        shared = 1 - own + own * same
        among = similar * shared + OFFSET * same + noise * np.eye(len(values))
        lower, _ = factor = cho_factor(among, lower=True)
        inverse = cho_solve(factor, np.eye(len(values)))
        weights = inverse @ values
        variance = max(float(values @ weights) / len(values), 1e-6)
        off = x - start
        misfit = 0.5 * len(values) * np.log(variance) + np.log(lower.diagonal()).sum()
        # d misfit / d covariance, then the covariance's own derivatives
        slope = 0.5 * (inverse - np.outer(weights, weights) / variance)
        gradient = off.copy()
        gradient[:dimensions] += (
            np.einsum("ij,ijd->d", 3 * slope * decay * shared, gaps) / scales**2
        )
        gradient[-2] += (slope * similar * (same - 1.0)).sum() * own * (1 - own)
        gradient[-1] += noise * slope.trace()
        return float(misfit + 0.5 * off @ off), gradient

    bounds = [(np.log(0.05), np.log(20))] * dimensions + [(-4, 4), (np.log(1e-3), np.log(2))]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.exp(found[:dimensions]), float(expit(found[-2])), float(np.exp(found[-1]))


def _some(count: int, most: int, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `most` of `count` indices: `first` of all, then evenly from the rest."""
    if count <= most:
        return np.arange(count)
    rest = np.setdiff1d(np.arange(count), first)
    room = max(0, most - len(first))
    return np.sort(np.concatenate([first[:most], rest[:: max(1, -(-len(rest) // max(1, room)))]]))

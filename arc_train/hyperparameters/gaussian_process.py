"""A Gaussian process over the trials of one method in all studies of a sweep.

Study s observes

    y_s(x) = b_s + f(x) + g_s(x) + noise

where b_s is the level of its task, f is common to all studies, and g_s is specific to study s. The
prediction for a study without observations follows the other studies; the weight of its own
observations grows with their number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit, ndtr

Array = NDArray[np.float64]

# All variances are relative to that of f + g_s. Tasks differ more than configurations do.
LEVEL_VARIANCE = 4.0
# Medians of the hyperparameters' priors, where the fit also starts: length scale in each dimension
# of the unit cube, share of g_s, variance of the noise.
LENGTH_SCALE, SPECIFIC_SHARE, NOISE = 0.8, 0.5, 0.1
FIT_POINTS = 200  # at most so many observations are used to fit hyperparameters
POSTERIOR_POINTS = 400  # and so many to compute the posterior


@dataclass
class Posterior:
    """The posterior of M candidates' accuracies in one study.

    mean: [M], in points around the study's mean. covariance: [M, M], of the accuracies without
    noise. noise: variance of one observation. incumbent: the highest value that the study has
    observed, minus infinity before its first observation.
    """

    mean: Array
    covariance: Array
    noise: float
    incumbent: float

    def expected_improvement(self) -> Array:
        """Expected improvement [M] of a noisy observation over the incumbent.

        The noise is included because a study chooses its winner by observed accuracy.
        """
        deviation = np.sqrt(np.clip(self.covariance.diagonal(), 0, None) + self.noise)
        z = (self.mean - self.incumbent) / deviation
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        improvement: Array = deviation * (z * ndtr(z) + density)
        return improvement

    def condition_on(self, index: int) -> None:
        """Condition on a candidate whose observation is pending, as if its mean was observed.

        (The kriging believer of Ginsbourger, Le Riche and Carraro, 2010.)
        """
        row = self.covariance[index].copy()
        self.covariance -= np.outer(row, row) / (row[index] + self.noise)
        self.incumbent = max(self.incumbent, float(self.mean[index]))


def fit_posterior(
    points: Array, values: Array, studies: NDArray[np.int64], candidates: Array
) -> Posterior:
    """Fit the process to observations of all studies; returns study 0's posterior.

    points: [N, D] in the unit cube, N >= 1. values: [N], centred within each study. studies: [N],
    the study of each observation. candidates: [M, D] in the unit cube.
    """
    kept = _subset(len(values), POSTERIOR_POINTS, first=np.flatnonzero(studies == 0))
    points, values, studies = points[kept], values[kept], studies[kept]
    scales, share, noise = _fit_hyperparameters(points, values, studies)
    study = np.zeros(len(candidates), dtype=np.int64)
    observed = _kernel(points, studies, points, studies, scales, share)
    factor = cho_factor(observed + noise * np.eye(len(values)), lower=True)
    variance = max(float(values @ cho_solve(factor, values)) / len(values), 1e-6)
    cross = _kernel(candidates, study, points, studies, scales, share)
    prior = _kernel(candidates, study, candidates, study, scales, share)
    own = values[studies == 0]
    return Posterior(
        mean=cross @ cho_solve(factor, values),
        covariance=variance * (prior - cross @ cho_solve(factor, cross.T)),
        noise=variance * noise,
        incumbent=float(own.max()) if len(own) else -np.inf,
    )


def _kernel(
    a: Array,
    studies_a: NDArray[np.int64],
    b: Array,
    studies_b: NDArray[np.int64],
    scales: Array,
    share: float,
) -> Array:
    """Prior covariance [A, B] of points in studies, relative to the variance of f + g_s."""
    same = studies_a[:, None] == studies_b[None, :]
    correlation, _ = _matern((a[:, None, :] - b[None, :, :]) ** 2, scales)
    covariance: Array = correlation * (1 - share + share * same) + LEVEL_VARIANCE * same
    return covariance


def _matern(squares: Array, scales: Array) -> tuple[Array, Array]:
    """Matern 3/2 correlation at squared differences [N, M, D], and its exponential factor."""
    distance = np.sqrt(3 * (squares / scales**2).sum(axis=-1))
    decay = np.exp(-distance)
    return (1 + distance) * decay, decay


def _fit_hyperparameters(
    points: Array, values: Array, studies: NDArray[np.int64]
) -> tuple[Array, float, float]:
    """Length scales [D], share of g_s and noise with the highest posterior density."""
    kept = _subset(len(values), FIT_POINTS, first=np.flatnonzero(studies == 0))
    points, values, studies = points[kept], values[kept], studies[kept]
    dimensions = points.shape[1]
    logit_share = np.log(SPECIFIC_SHARE / (1 - SPECIFIC_SHARE))
    start = np.array([np.log(LENGTH_SCALE)] * dimensions + [logit_share, np.log(NOISE)])
    squares = (points[:, None, :] - points[None, :, :]) ** 2
    same = studies[:, None] == studies[None, :]

    def loss(x: Array) -> tuple[float, Array]:
        """Negative log posterior density, at the most likely overall variance; its gradient."""
        scales, share, noise = np.exp(x[:dimensions]), expit(x[-2]), np.exp(x[-1])
        correlation, decay = _matern(squares, scales)
        weight = 1 - share + share * same
        covariance = correlation * weight + LEVEL_VARIANCE * same + noise * np.eye(len(values))
        lower, _ = factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, np.eye(len(values)))
        solved = inverse @ values
        variance = max(float(values @ solved) / len(values), 1e-6)
        offset = x - start
        misfit = 0.5 * len(values) * np.log(variance) + np.log(lower.diagonal()).sum()
        # d misfit / d covariance, and the chain rule through the covariance
        slope = 0.5 * (inverse - np.outer(solved, solved) / variance)
        gradient = offset.copy()
        gradient[:dimensions] += (
            np.einsum("ij,ijd->d", 3 * slope * decay * weight, squares) / scales**2
        )
        gradient[-2] += (slope * correlation * (same - 1.0)).sum() * share * (1 - share)
        gradient[-1] += noise * slope.trace()
        return float(misfit + 0.5 * offset @ offset), gradient

    bounds = [(np.log(0.05), np.log(20))] * dimensions + [(-4, 4), (np.log(1e-3), np.log(2))]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.exp(found[:dimensions]), float(expit(found[-2])), float(np.exp(found[-1]))


def _subset(count: int, most: int, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `most` of `count` indices: first those in `first`, then an even part of the rest."""
    if count <= most:
        return np.arange(count)
    rest = np.setdiff1d(np.arange(count), first)
    room = max(0, most - len(first))
    return np.sort(np.concatenate([first[:most], rest[:: max(1, -(-len(rest) // max(1, room)))]]))

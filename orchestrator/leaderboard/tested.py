"""A study's finals -> its accuracy over seeds, what they cost, and what the leak meter saw."""

import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

from orchestrator.leaderboard.board import BestOnTest, Cost, Interval, Spread
from orchestrator.search.selection import Candidate, finals, select
from orchestrator.store.result import Result, TestCurve

CONFIDENCE = 0.95


def tested_of(results: Sequence[Result], seeds: Sequence[int]) -> list[Result]:
    """The winner's finals that count, in the order of their seeds."""
    chosen = select(map(Candidate.of, results))
    tested = [result for result in finals(results, chosen) if result.seed in seeds]
    return sorted(tested, key=lambda result: seeds.index(result.seed))


def cost(tested: Sequence[Result]) -> Cost | None:
    """What a study's finals cost; None where one is of code that told only its seconds."""
    speeds = [r.images_per_second for r in tested if r.images_per_second is not None]
    if not tested or len(speeds) < len(tested):
        return None
    energies = [r.energy for r in tested if r.energy is not None]
    return Cost(
        seconds=statistics.fmean(r.seconds for r in tested),
        images_per_second=statistics.fmean(speeds),
        peak_memory=max((r.peak_memory for r in tested if r.peak_memory is not None), default=None),
        energy=statistics.fmean(energies) if len(energies) == len(tested) else None,
    )


def spread(accuracies: Sequence[float]) -> Spread | None:
    """Mean, sample standard deviation and 95 % interval over seeds; one seed has only a mean."""
    if not accuracies:
        return None
    return Spread(
        mean=statistics.fmean(accuracies),
        std=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        n=len(accuracies),
        seeds=tuple(accuracies),
        ci95=interval(accuracies),
    )


def interval(accuracies: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of the mean over seeds, in percent; None for one seed.

    It covers what a seed changes: initialisation, dropout, the order of batches. It does not cover
    that another search could choose another configuration, nor that other test images would give
    another accuracy (a standard error of up to 2.2 points on 500 images, 0.3 on 20,000); all
    methods are tested on the same images, so of that a comparison feels only a part.
    """
    if len(accuracies) < 2:
        return None
    mean = statistics.fmean(accuracies)
    quantile = float(stdtrit(len(accuracies) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * statistics.stdev(accuracies) / len(accuracies) ** 0.5
    return max(0.0, mean - half), min(100.0, mean + half)


def best_on_test(curves: Sequence[TestCurve]) -> BestOnTest | None:
    """What the best epoch of each final would have claimed; None without the leak meter."""
    if not curves:
        return None
    best = [max(curve, key=lambda row: row.accuracy) for curve in curves]
    accuracies = [row.accuracy for row in best]
    gaps = [row.accuracy - curve[-1].accuracy for row, curve in zip(best, curves, strict=True)]
    return BestOnTest(
        mean=statistics.fmean(accuracies),
        std=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        n=len(accuracies),
        epochs=tuple(row.epoch for row in best),
        gap=statistics.fmean(gaps),
    )

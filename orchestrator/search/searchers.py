"""What a study tries next: functions of the trials that it and its sweep have, and of nothing else.

A searcher keeps no state: what it learned is in the result files, so a resumed sweep searches on
as if it had never stopped. None of them sees more of a trial than `Tried`.
"""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.search.space import (
    Choice,
    Config,
    Range,
    Space,
    Value,
    features,
    grid_configs,
    nearest_config,
    random_configs,
    size,
)

# Points below a study's best at which a trial is simply bad: how bad says nothing of the good ones.
FLOOR = 15.0
POOL = 500  # configurations that a model chooses among, where there are more
NEIGHBOURS = 100  # of them near the study's best so far


@dataclass(frozen=True)
class Tried:
    """A configuration that was tried, and its validation accuracy in percent; None: it failed.

    (Of a trial stopped at a rung it is the accuracy there: the least that it is worth.)
    """

    config: Config
    accuracy: float | None


@dataclass(frozen=True)
class Problem:
    """What a searcher may know.

    first: the method's recommended configuration, or nothing. own: the study's trials. others:
    those of the sweep's other studies with the same method, study by study.
    """

    space: Space
    seed: int
    first: Mapping[str, float]
    own: Sequence[Tried]
    others: Sequence[Sequence[Tried]] = ()

    @property
    def number(self) -> int:
        """Of the study's next trial."""
        return len(self.own)

    def untried(self, configs: Sequence[Config]) -> list[Config]:
        """Those of some configurations that the study has not tried, each once."""
        seen = {_key(tried.config) for tried in self.own}
        fresh = {_key(config): config for config in configs}
        return [config for key, config in fresh.items() if key not in seen]


def random_search(problem: Problem, count: int) -> list[Config]:
    """Random configurations, the same however they are asked for."""
    return _filled(problem, [], count)


def grid(problem: Problem, count: int) -> list[Config]:
    """All combinations in order."""
    return problem.untried(grid_configs(problem.space))[:count]


def portfolio(problem: Problem, count: int) -> list[Config]:
    """First what the method recommends, then what other studies and this one's own trials promise.

    Expected improvement under a Gaussian process over all studies of the method. A study that
    nothing is known about starts with the recommendation and random configurations.
    """
    first = [] if problem.own else _recommendation(problem)
    histories = [history for history in (problem.own, *problem.others) if history]
    if not histories:
        return _filled(problem, first, count)
    from orchestrator.search.gaussian_process import believe

    pool = problem.untried([*first, *_pool(problem)])
    if not pool:
        return []
    chosen = list(range(min(len(first), count)))
    belief = believe(
        np.array([features(problem.space, t.config) for h in histories for t in h]),
        np.concatenate([_values(history) for history in histories]),
        np.repeat(
            [0 if history is problem.own else i + 1 for i, history in enumerate(histories)],
            [len(history) for history in histories],
        ),
        np.array([features(problem.space, config) for config in pool]),
    )
    for index in chosen:
        belief.assume(index)
    while len(chosen) < min(count, len(pool)):
        promise = belief.improvement() if belief.best > -np.inf else belief.mean.copy()
        promise[chosen] = -np.inf
        chosen.append(int(promise.argmax()))
        belief.assume(chosen[-1])
    return [pool[index] for index in chosen]


def tpe(problem: Problem, count: int) -> list[Config]:
    """Optuna's multivariate TPE, told the study's own trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=(problem.seed + problem.number) % 2**32,
            multivariate=True,
            constant_liar=True,
            n_startup_trials=1,
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    dimensions = {name: _distribution(d) for name, d in sorted(problem.space.items())}
    for tried, value in zip(problem.own, _values(problem.own), strict=True):
        study.add_trial(
            optuna.create_trial(params=tried.config, distributions=dimensions, value=float(value))
        )
    found: list[Config] = []
    for _ in range(20 * count):  # small spaces make it repeat itself
        config = {
            name: float(f"{value:.4g}") if isinstance(problem.space[name], Range) else value
            for name, value in study.ask(dimensions).params.items()
        }
        found = problem.untried([*found, nearest_config(problem.space, config)])
        if len(found) == count:
            break
    return _filled(problem, found, count)


SEARCHERS: dict[str, Callable[[Problem, int], list[Config]]] = {
    "portfolio": portfolio,
    "random": random_search,
    "grid": grid,
    "tpe": tpe,
}
# Searchers that learn from trials, and so want a study's trials in several rounds.
LEARNING = ("portfolio", "tpe")


def _recommendation(problem: Problem) -> list[Config]:
    """The recommended configuration, if there is one for all that is searched."""
    searched = {name for name, dimension in problem.space.items() if dimension.size > 1}
    return [nearest_config(problem.space, problem.first)] if searched <= set(problem.first) else []


def _filled(problem: Problem, configs: Sequence[Config], count: int) -> list[Config]:
    """Configurations made up to `count` with random ones, or with all that there are."""
    draws = problem.number + count
    while True:
        drawn = random_configs(problem.space, problem.seed, draws)
        fresh = problem.untried([*configs, *drawn])[:count]
        if len(fresh) == count or draws >= size(problem.space):
            return fresh
        draws *= 2


def _pool(problem: Problem) -> list[Config]:
    """What a model chooses among: the grid, or random ones, all tried elsewhere, and neighbours."""
    if size(problem.space) <= POOL:
        return grid_configs(problem.space)
    elsewhere = [
        nearest_config(problem.space, tried.config)
        for history in problem.others
        for tried in history
    ]
    pool = random_configs(problem.space, problem.seed, POOL)
    finished = [tried for tried in problem.own if tried.accuracy is not None]
    if finished:
        best = max(finished, key=lambda tried: tried.accuracy or 0).config
        draws = random.Random(f"{problem.seed}/{problem.number}/neighbours")
        names = sorted(problem.space)
        for _ in range(NEIGHBOURS):
            name = draws.choice(names)
            pool.append({**best, name: problem.space[name].sample(draws)})
    return [*elsewhere[-POOL:], *pool]


def _values(history: Sequence[Tried]) -> NDArray[np.float64]:
    """Accuracies around their mean, in points, none further below the best than FLOOR."""
    finished = [tried.accuracy for tried in history if tried.accuracy is not None]
    if not finished:
        return np.full(len(history), -FLOOR)
    best, mean = max(finished), sum(finished) / len(finished)
    floor = best - FLOOR
    measured = [floor if tried.accuracy is None else tried.accuracy for tried in history]
    return np.maximum(measured, floor) - max(mean, floor)


def _distribution(dimension: Choice | Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _key(config: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(config.items()))

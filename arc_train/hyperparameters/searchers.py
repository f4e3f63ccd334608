"""What a study tries next: functions of the trials that it and its sweep have, and of nothing else.

A searcher keeps no state: everything it learned is in the result files, so a resumed sweep
continues its search as if it had never stopped. A searcher sees no more of a trial than an
`Observation`.
"""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_train.hyperparameters.space import (
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

# Accuracies are clipped so many points below a study's best: how bad a bad configuration is says
# nothing about good ones.
FLOOR = 15.0
CANDIDATES = 500  # a model chooses among so many configurations where the space has more
NEIGHBOURS = 100  # and among so many more that differ from the study's best in one hyperparameter


@dataclass(frozen=True)
class Observation:
    """A configuration and the validation accuracy in percent that it reached; None: it failed.

    For a trial stopped at a rung, the accuracy at that rung stands in as a lower bound.
    """

    config: Config
    accuracy: float | None


@dataclass(frozen=True)
class Problem:
    """Everything that a searcher may use.

    first: the method's recommended configuration, empty if there is none. own: the study's
    observations. others: observations of other studies of the same method, by study; their spaces
    may be others.
    """

    space: Space
    seed: int
    first: Mapping[str, float]
    own: Sequence[Observation]
    others: Sequence[Sequence[Observation]] = ()

    @property
    def number(self) -> int:
        """The number of the study's next trial."""
        return len(self.own)

    def untried(self, configs: Sequence[Config]) -> list[Config]:
        """The configurations that the study has not tried, without duplicates."""
        seen = {_key(observation.config) for observation in self.own}
        fresh = {_key(config): config for config in configs}
        return [config for key, config in fresh.items() if key not in seen]


def random_search(problem: Problem, count: int) -> list[Config]:
    """Random configurations: the same sequence in however many calls it is drawn."""
    return _fill(problem, [], count)


def grid(problem: Problem, count: int) -> list[Config]:
    """All combinations in order."""
    return problem.untried(grid_configs(problem.space))[:count]


def portfolio(problem: Problem, count: int) -> list[Config]:
    """The method's recommendation, then the highest expected improvement.

    The surrogate is a Gaussian process over all studies of the method. Without any observation,
    random configurations follow the recommendation.
    """
    first = [] if problem.own else _recommendation(problem)
    problem = replace(problem, others=_comparable(problem))
    histories = [history for history in (problem.own, *problem.others) if history]
    if not histories:
        return _fill(problem, first, count)
    from arc_train.hyperparameters.gaussian_process import fit_posterior

    candidates = problem.untried([*first, *_candidates(problem)])
    if not candidates:
        return []
    posterior = fit_posterior(
        np.array([features(problem.space, o.config) for h in histories for o in h]),
        np.concatenate([_values(history) for history in histories]),
        np.repeat(
            [0 if history is problem.own else i + 1 for i, history in enumerate(histories)],
            [len(history) for history in histories],
        ),
        np.array([features(problem.space, config) for config in candidates]),
    )
    chosen = list(range(min(len(first), count)))
    for index in chosen:
        posterior.condition_on(index)
    while len(chosen) < min(count, len(candidates)):
        observed = posterior.incumbent > -np.inf
        acquisition = posterior.expected_improvement() if observed else posterior.mean.copy()
        acquisition[chosen] = -np.inf
        chosen.append(int(acquisition.argmax()))
        posterior.condition_on(chosen[-1])
    return [candidates[index] for index in chosen]


def tpe(problem: Problem, count: int) -> list[Config]:
    """Optuna's multivariate TPE over the study's own observations."""
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
    for observation, value in zip(problem.own, _values(problem.own), strict=True):
        study.add_trial(
            optuna.create_trial(
                params=dict(observation.config), distributions=dimensions, value=float(value)
            )
        )
    found: list[Config] = []
    for _ in range(20 * count):  # in a small space the sampler repeats itself
        config = {
            name: float(f"{value:.4g}") if isinstance(problem.space[name], Range) else value
            for name, value in study.ask(dimensions).params.items()
        }
        found = problem.untried([*found, nearest_config(problem.space, config)])
        if len(found) == count:
            break
    return _fill(problem, found, count)


SEARCHERS: dict[str, Callable[[Problem, int], list[Config]]] = {
    "portfolio": portfolio,
    "random": random_search,
    "grid": grid,
    "tpe": tpe,
}
# Searchers that learn from observations and therefore propose a study's trials in several rounds.
LEARNING = ("portfolio", "tpe")


def _comparable(problem: Problem) -> list[list[Observation]]:
    """Other studies' observations of the same hyperparameters and variants of the method."""

    def is_ours(name: str, value: Value) -> bool:
        dimension = problem.space[name]
        return not isinstance(value, str | bool) or (
            isinstance(dimension, Choice) and value in dimension.values
        )

    def is_comparable(config: Config) -> bool:
        same = config.keys() == problem.space.keys()
        return same and all(is_ours(name, value) for name, value in config.items())

    return [[o for o in history if is_comparable(o.config)] for history in problem.others]


def _recommendation(problem: Problem) -> list[Config]:
    """The recommended configuration, if it names every searched hyperparameter."""
    searched = {name for name, dimension in problem.space.items() if dimension.size > 1}
    return [nearest_config(problem.space, problem.first)] if searched <= set(problem.first) else []


def _fill(problem: Problem, configs: Sequence[Config], count: int) -> list[Config]:
    """`count` untried configurations: the given ones, then random ones; fewer in a small space."""
    draws = problem.number + count
    while True:
        drawn = random_configs(problem.space, problem.seed, draws)
        fresh = problem.untried([*configs, *drawn])[:count]
        if len(fresh) == count or draws >= size(problem.space):
            return fresh
        draws *= 2


def _candidates(problem: Problem) -> list[Config]:
    """What a model chooses among: the grid of a small space, else samples of a large one.

    The samples are configurations tried in other studies, random ones, and neighbours of the
    study's best.
    """
    if size(problem.space) <= CANDIDATES:
        return grid_configs(problem.space)
    elsewhere = [
        nearest_config(problem.space, observation.config)
        for history in problem.others
        for observation in history
    ]
    drawn = random_configs(problem.space, problem.seed, CANDIDATES)
    finished = [observation for observation in problem.own if observation.accuracy is not None]
    if finished:
        best = max(finished, key=lambda observation: observation.accuracy or 0).config
        draws = random.Random(f"{problem.seed}/{problem.number}/neighbours")
        names = sorted(problem.space)
        for _ in range(NEIGHBOURS):
            name = draws.choice(names)
            drawn.append({**best, name: problem.space[name].sample(draws)})
    return [*elsewhere[-CANDIDATES:], *drawn]


def _values(history: Sequence[Observation]) -> NDArray[np.float64]:
    """Accuracies relative to their mean in points, clipped at FLOOR below the best."""
    finished = [o.accuracy for o in history if o.accuracy is not None]
    if not finished:
        return np.full(len(history), -FLOOR)
    best, mean = max(finished), sum(finished) / len(finished)
    floor = best - FLOOR
    accuracies = [floor if o.accuracy is None else o.accuracy for o in history]
    return np.maximum(accuracies, floor) - max(mean, floor)


def _distribution(dimension: Choice | Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _key(config: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(config.items()))

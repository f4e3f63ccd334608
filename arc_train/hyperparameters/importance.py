"""How much of the variation of a method's validation accuracy each hyperparameter explains.

A random forest is fitted to the trials of all tasks, and its variance over the search space is
divided among the hyperparameters: functional ANOVA (Hutter, Hoos and Leyton-Brown, 2014), by
Sobol's indices. What the forest says is worth as much as it knows of tasks that it has not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_train.hyperparameters.searchers import Observation
from arc_train.hyperparameters.space import Choice, Dimension, Space, features

Array = NDArray[np.float64]

TREES = 64
LEAF = 3  # observations: a smaller leaf would learn the luck of the validation images
SAMPLES = 2**10  # of the space, for Sobol's indices
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the variance in percent; ci95: over tasks, None where there are fewer than 3."""

    value: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Importance:
    """What explains a method's accuracy, by hyperparameter.

    alone: what each explains whatever the others are. total: with all its interactions. unseen: the
    share of the variance between the trials of a task that a forest of the other tasks predicts, in
    percent; none or less means that the shares say nothing. None for a single task.
    """

    tasks: int
    trials: int
    alone: Mapping[str, Share]
    total: Mapping[str, Share]
    unseen: float | None


def importance(space: Space, tasks: Sequence[Sequence[Observation]]) -> Importance | None:
    """Shares of the hyperparameters that are searched, from the trials of some tasks.

    A task counts by its accuracies' deviations from their mean, divided by their spread, so that
    each weighs alike. A trial without an accuracy (it diverged) is as good as the task's worst.
    None where fewer than two are searched, or no task has trials that differ.
    """
    names = [name for name in sorted(space) if space[name].size > 1]
    searched = {name: space[name] for name in names}
    scaled = [
        (_points(searched, task), values) for task in tasks if (values := _values(task)) is not None
    ]
    if len(names) < 2 or not scaled:
        return None
    dimensions = [space[name] for name in names]
    alone, total = _indices(_fit(scaled), dimensions)
    left_out, wrong, every = [], 0.0, 0.0
    for place, (where, values) in enumerate(scaled if len(scaled) > 1 else []):
        forest = _fit([task for other, task in enumerate(scaled) if other != place])
        left_out.append(_indices(forest, dimensions))
        wrong += float(((forest.predict(where) - values) ** 2).sum())
        every += float((values**2).sum())
    return Importance(
        tasks=len(scaled),
        trials=sum(len(values) for _, values in scaled),
        alone=_shares(names, alone, [a for a, _ in left_out]),
        total=_shares(names, total, [b for _, b in left_out]),
        unseen=100 * (1 - wrong / every) if every else None,
    )


def _points(space: Space, task: Sequence[Observation]) -> Array:
    """Configurations [N, D] in the unit cube."""
    return np.array([features(space, observation.config) for observation in task])


def _values(task: Sequence[Observation]) -> Array | None:
    """Accuracies [N], standardised; None where they don't differ."""
    finished = [o.accuracy for o in task if o.accuracy is not None]
    if not finished or len(set(finished)) == 1:
        return None
    values = np.array([min(finished) if o.accuracy is None else o.accuracy for o in task])
    return np.asarray((values - values.mean()) / values.std())


def _fit(tasks: Sequence[tuple[Array, Array]]) -> Any:
    from sklearn.ensemble import RandomForestRegressor  # slow to import

    forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, random_state=0)
    return forest.fit(
        np.concatenate([where for where, _ in tasks]), np.concatenate([v for _, v in tasks])
    )


def _indices(forest: Any, dimensions: Sequence[Dimension]) -> tuple[Array, Array]:
    """First-order and total indices [D] in percent, over a space sampled uniformly."""
    from scipy.stats import sobol_indices, uniform

    def predict(drawn: Array) -> Array:
        """drawn: [D, N] in the unit cube."""
        where = np.stack([_placed(d, u) for d, u in zip(dimensions, drawn, strict=True)], axis=1)
        return np.asarray(forest.predict(where))

    found = sobol_indices(
        func=predict, n=SAMPLES, dists=[uniform()] * len(dimensions), rng=np.random.default_rng(0)
    )
    return 100 * found.first_order, 100 * found.total_order


def _placed(dimension: Dimension, drawn: Array) -> Array:
    """Coordinates (space.features) of a dimension's values that draws [N] of 0..1 choose."""
    if not isinstance(dimension, Choice):
        return drawn
    return np.minimum(np.floor(drawn * dimension.size), dimension.size - 1) / (dimension.size - 1)


def _shares(names: Sequence[str], values: Array, left_out: Sequence[Array]) -> dict[str, Share]:
    """Shares with the jackknife's interval over tasks."""
    from scipy.stats import t

    count, half = len(left_out), None
    if count > 2:
        spread = np.stack(left_out)
        error = np.sqrt((count - 1) / count * ((spread - spread.mean(axis=0)) ** 2).sum(axis=0))
        half = t.ppf((1 + CONFIDENCE) / 2, count - 1) * error
    shares = {}
    for place, name in enumerate(names):
        value = float(np.clip(values[place], 0, 100))
        ci95 = None
        if half is not None:
            ci95 = (max(0.0, value - float(half[place])), min(100.0, value + float(half[place])))
        shares[name] = Share(value, ci95)
    return shares

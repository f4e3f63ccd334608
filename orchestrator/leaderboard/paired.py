"""Which of two methods is better, told from the same test images.

Accuracies of methods that were tested on the same images differ by less chance than each has alone:
an image that all get wrong says nothing of their difference. Chance enters by the images, the same
for both methods, and by each method's seeds; the variances of a difference add up, and Student's t
with Satterthwaite's degrees of freedom takes account of how few the seeds are. (A bootstrap of two
or three seeds would find half or two thirds of their variance, and has no tail that a correction
for many pairs could use.) With one seed each there is nothing to say of seeds: McNemar's test,
exact, speaks of the images alone (Dietterich, Neural Computation 1998).

Over several tasks two questions are asked: of the mean over these tasks, and of tasks like these,
where the tasks themselves are a sample. p-values of all pairs that are compared at once are
corrected by Holm's method (Scandinavian Journal of Statistics, 1979).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.05
Right = NDArray[np.bool_]  # [seeds, images]: which images a study's finals classify correctly
# What a pair is compared on, beside the means by their names.
TASK, SUCH = "task", "tasks like these"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference of accuracies in points, with its standard error and degrees of freedom."""

    difference: float
    error: float
    freedom: float

    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        half = float(stdtrit(self.freedom, 1 - LEVEL / 2)) * self.error if self.error else 0.0
        return self.difference - half, self.difference + half

    def probability(self) -> float:
        """That the difference is above zero."""
        if self.error == 0:
            return 0.5 + 0.5 * float(np.sign(self.difference))
        return float(stdtr(self.freedom, self.difference / self.error))

    def p(self) -> float:
        """Two-sided, of no difference."""
        return 2 * min(self.probability(), 1 - self.probability())


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods on one backbone: the first one's accuracy minus the second's, in points.

    scope: `task`, a mean's name, or `tasks like these`; task: None but for the first. ci95: of the
    difference. probability: that the first is better. p: two-sided, of no difference; p_corrected:
    by Holm, over the pairs of this backbone, scope and task. test: how p was found.
    """

    backbone: str
    scope: str
    task: str | None
    methods: tuple[str, str]
    difference: float
    ci95: tuple[float, float]
    probability: float
    p: float
    p_corrected: float
    test: str

    @property
    def told_apart(self) -> bool:
        """Whether chance is an unlikely reason for the difference."""
        return self.p_corrected < LEVEL


def compare(
    backbone: str,
    finals: Mapping[str, Mapping[str, Right]],
    means: Mapping[str, Mapping[str, float]],
) -> list[Pair]:
    """All pairs of methods on each task and in each mean, and over tasks like these.

    finals: task -> method -> [seeds, images]; on a task all of the same images.
    means: name -> task -> weight. A pair is compared in a mean if it has finals on all its tasks.
    """
    found: list[Pair] = []
    estimates: dict[tuple[str, str], dict[str, Estimate]] = {}
    for task, methods in finals.items():
        pairs = []
        for names in itertools.combinations(methods, 2):
            a, b = (methods[name] for name in names)
            estimate = of_finals(a, b)
            estimates.setdefault(names, {})[task] = estimate
            pair = _pair(backbone, TASK, task, names, estimate, "paired over images and seeds")
            if len(a) == len(b) == 1:
                p = mcnemar(a[0], b[0])
                pair = replace(pair, p=p, p_corrected=p, test="McNemar, exact: images, one seed")
            pairs.append(pair)
        found += _corrected(pairs)
    for mean, weights in means.items():
        over = {
            names: over_these({task: by_task[task] for task in weights}, weights)
            for names, by_task in estimates.items()
            if weights.keys() <= by_task.keys()
        }
        said = "paired over the images and seeds of these tasks"
        found += _corrected([_pair(backbone, mean, None, n, e, said) for n, e in over.items()])
    such = {
        names: over_such(list(by_task.values()))
        for names, by_task in estimates.items()
        if len(by_task) == len(finals) > 1
    }
    said = "paired over tasks, as a sample of such tasks"
    return found + _corrected([_pair(backbone, SUCH, None, n, e, said) for n, e in such.items()])


def of_finals(a: Right, b: Right) -> Estimate:
    """The difference of two methods' mean accuracy on the same images."""
    images = a.shape[1]
    by_image = 100 * (a.mean(axis=0) - b.mean(axis=0))
    parts = [(float(by_image.var(ddof=1)) / images if images > 1 else 0.0, images - 1)]
    parts += [(of_seeds(right), len(right) - 1) for right in (a, b) if len(right) > 1]
    return _added(float(by_image.mean()), parts)


def of_seeds(right: Right) -> float:
    """The variance, in points squared, that drawing other seeds gives a method's mean accuracy.

    Seeds differ on single images, too; that much the variance over images has already, so it is
    taken off (the mean square of what is left when both means are taken away).
    """
    seeds, images = right.shape
    by_seed, by_image = right.mean(axis=1, keepdims=True), right.mean(axis=0, keepdims=True)
    rest = right - by_seed - by_image + right.mean()
    mixed = float(np.square(rest).sum()) / ((seeds - 1) * max(1, images - 1)) / images
    variance: float = 1e4 * max(0.0, float(by_seed.var(ddof=1)) - mixed) / seeds
    return variance


def over_these(estimates: Mapping[str, Estimate], weights: Mapping[str, float]) -> Estimate:
    """A weighted mean of the differences on these tasks, whose chance is that of each."""
    parts = [((weights[task] * e.error) ** 2, e.freedom) for task, e in estimates.items()]
    return _added(sum(weights[task] * e.difference for task, e in estimates.items()), parts)


def over_such(estimates: Sequence[Estimate]) -> Estimate:
    """The mean difference over tasks like these, which vary themselves."""
    differences = np.array([e.difference for e in estimates])
    variance = float(differences.var(ddof=1)) / len(differences)
    return _added(float(differences.mean()), [(variance, len(differences) - 1)])


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """The exact two-sided p of as many images that only a classifies correctly as only b does."""
    return sign_test(int((a & ~b).sum()), int((b & ~a).sum()))


def sign_test(above: int, below: int) -> float:
    """The exact two-sided p of as many differences above zero as below."""
    from scipy.stats import binomtest  # slow to import

    if above + below == 0:
        return 1.0
    return float(binomtest(above, above + below).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p-values, corrected for being looked at together."""
    corrected, largest = [0.0] * len(values), 0.0
    for place, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - place) * values[i]))
        corrected[i] = largest
    return corrected


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    values = holm([pair.p for pair in pairs])
    return [replace(pair, p_corrected=p) for pair, p in zip(pairs, values, strict=True)]


def _added(difference: float, parts: Sequence[tuple[float, float]]) -> Estimate:
    """An estimate whose variance is a sum of (variance, degrees of freedom); Satterthwaite 1946."""
    variance = sum(part for part, _ in parts)
    weight = sum(part**2 / freedom for part, freedom in parts if part)
    return Estimate(difference, math.sqrt(variance), variance**2 / weight if weight else 1.0)


def _pair(
    backbone: str,
    scope: str,
    task: str | None,
    names: tuple[str, str],
    estimate: Estimate,
    test: str,
) -> Pair:
    p = estimate.p()
    return Pair(
        backbone,
        scope,
        task,
        names,
        estimate.difference,
        estimate.interval(),
        estimate.probability(),
        p,
        p,
        test,
    )

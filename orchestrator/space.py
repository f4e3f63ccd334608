"""Search spaces: what a YAML value of `search.space.<method>.<hyperparameter>` means.

[8, 16, 50]        a choice
{log: [1e-3, 0.1]} log-uniform between the two
{uniform: [0, 1]}  uniform between the two
0.1                fixed
"""

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One of some values, all equally likely."""

    values: tuple[float, ...]

    def sample(self, draws: random.Random) -> float:
        """A value, from one draw."""
        return self.values[int(draws.random() * len(self.values))]


@dataclass(frozen=True)
class Range:
    """A number between two bounds, uniform in itself or (log) in its logarithm."""

    low: float
    high: float
    log: bool

    def sample(self, draws: random.Random) -> float:
        """A value to 4 significant digits, from one draw: what is shown is what was run."""
        if self.log:
            value = math.exp(draws.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = draws.uniform(self.low, self.high)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


Dimension = Choice | Range
Space = Mapping[str, Dimension]

# Bounds that hold for any method: (lowest, whether it itself is allowed, highest excluded).
_BOUNDS: dict[str, tuple[float, bool, float]] = {
    "rank": (1, True, math.inf),
    "tokens": (1, True, math.inf),
    "layers": (1, True, math.inf),
    "scale": (0, False, math.inf),
    "lr": (0, False, math.inf),
    "weight_decay": (0, True, math.inf),
    "dropout": (0, True, 1),
}


_WHOLE = ("rank", "tokens", "layers")


def parse(name: str, raw: Any) -> Dimension:
    """A hyperparameter's dimension from its YAML value.

    Raises:
        ValueError: it is none of the four forms, or a value is outside the hyperparameter's range.
    """
    dimension = _form(raw)
    values = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
    low, included, high = _BOUNDS.get(name, (-math.inf, True, math.inf))
    for value in values:
        if not (low <= value < high) or (value == low and not included):
            least = "at least" if included else "above"
            most = "" if high == math.inf else f" and below {high:g}"
            raise ValueError(f"{name} must be {least} {low:g}{most}, found {value:g}")
    if name == "layers" and len(values) > 1:
        raise ValueError(f"layers must be one number: trials of a pack share them, found {raw!r}")
    if name in _WHOLE:
        if isinstance(dimension, Range) or any(value != int(value) for value in values):
            raise ValueError(f"{name} must be a whole number or a list of them, found {raw!r}")
        return Choice(tuple(int(value) for value in values))
    return dimension


def _form(raw: Any) -> Dimension:
    if _number(raw):
        return Choice((raw,))
    if isinstance(raw, list) and raw and all(_number(value) for value in raw):
        return Choice(tuple(raw))
    if isinstance(raw, dict) and len(raw) == 1:
        kind, bounds = next(iter(raw.items()))
        if (
            kind in ("log", "uniform")
            and isinstance(bounds, list)
            and len(bounds) == 2
            and all(_number(bound) for bound in bounds)
        ):
            low, high = bounds
            if kind == "log" and low <= 0:
                raise ValueError(f"a log range must start above 0, found {raw!r}")
            if not low < high:
                raise ValueError(f"a range goes from the smaller to the larger, found {raw!r}")
            return Range(float(low), float(high), kind == "log")
    raise ValueError(
        "expected a number, a list of numbers, {log: [low, high]} or {uniform: [low, high]}, "
        f"found {raw!r}" + _exponent_hint(raw)
    )


def _number(raw: Any) -> bool:
    return isinstance(raw, (int, float)) and not isinstance(raw, bool) and math.isfinite(raw)


def _exponent_hint(raw: Any) -> str:
    """YAML reads 1e-3 as text: say so, since everyone writes it."""
    texts = raw if isinstance(raw, list) else [raw]
    if isinstance(raw, dict):
        texts = [x for bounds in raw.values() if isinstance(bounds, list) for x in bounds]
    for text in texts:
        if isinstance(text, str):
            try:
                float(text)
            except ValueError:
                continue
            return f" (YAML takes {text} for text: write {float(text)} or 1.0e-3 style)"
    return ""


def random_configs(space: Space, seed: int, count: int) -> list[dict[str, float]]:
    """The first `count` random configurations of a study.

    Each has a generator of its own, so asking for more later begins with the same ones.
    Doubles (small spaces have them) are left out as long as new ones can be found.
    """
    configs: list[dict[str, float]] = []
    seen: set[tuple[tuple[str, float], ...]] = set()
    for index in itertools.count():
        draws = random.Random(f"{seed}/{index}")
        config = {name: dimension.sample(draws) for name, dimension in sorted(space.items())}
        key = tuple(config.items())
        if key not in seen:
            seen.add(key)
            configs.append(config)
        if len(configs) == count or index >= 50 * count:
            return configs
    raise AssertionError("unreachable")


def grid_configs(space: Space) -> list[dict[str, float]]:
    """Every combination of the choices.

    Raises:
        ValueError: a dimension is a range, which has no grid.
    """
    names = sorted(space)
    axes = []
    for name in names:
        dimension = space[name]
        if isinstance(dimension, Range):
            raise ValueError(
                f"a grid needs lists: {name} is a range, {dimension.low:g} to {dimension.high:g}"
            )
        axes.append(dimension.values)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]

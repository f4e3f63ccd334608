"""Search spaces: what a YAML value of `search.space.<method>.<hyperparameter>` means.

[8, 16, 50]        a choice
{log: [1e-3, 0.1]} log-uniform between the two
{uniform: [0, 1]}  uniform between the two
0.1                fixed
residual           a variant of the method, fixed (arc_train.methods.Method.options)
"""

import itertools
import math
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str
Config = Mapping[str, Value]


@dataclass(frozen=True)
class Choice:
    """One of some values, all equally likely."""

    values: tuple[Value, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.values)

    def sample(self, draws: random.Random) -> Value:
        """A value, from one draw."""
        return self.values[int(draws.random() * len(self.values))]

    def nearest(self, value: Value) -> Value:
        """The value itself if it is a choice; else the nearest number, or the first name."""
        if value in self.values or isinstance(value, str):
            return value if value in self.values else self.values[0]
        return min(self.values, key=lambda own: abs(float(own) - value))

    def features(self, value: Value) -> list[float]:
        """A number's rank among the choices, scaled to 0..1; for names, a one-hot vector.

        A number that is none of them, from a study with another space, lies between two or beside
        the last.
        """
        if len(self.values) == 1:
            return []
        if any(isinstance(own, str) for own in self.values):
            return [float(value == own) for own in self.values]
        numbers = sorted(map(float, self.values))
        after = bisect_left(numbers, float(value))
        if 0 < after < len(numbers):
            low, high = numbers[after - 1], numbers[after]
            place = after - (high - float(value)) / (high - low)
        else:
            place = min(after, len(numbers) - 1)
        return [place / (len(numbers) - 1)]


@dataclass(frozen=True)
class Range:
    """A number between two bounds, uniformly distributed, or log-uniformly if `log`."""

    low: float
    high: float
    log: bool

    @property
    def size(self) -> float:
        """How many values there are."""
        return math.inf

    def nearest(self, value: Value) -> float:
        """The value, clipped to the bounds."""
        return min(max(float(value), self.low), self.high)

    def features(self, value: Value) -> list[float]:
        """The value scaled to 0..1 between the bounds, on a log scale if `log`."""
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return [(at - low) / (high - low)]

    def sample(self, draws: random.Random) -> float:
        """A value from one draw, rounded to 4 significant digits so that tables show it exactly."""
        if self.log:
            value = math.exp(draws.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = draws.uniform(self.low, self.high)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


Dimension = Choice | Range
Space = Mapping[str, Dimension]

# Bounds for any method: (lower bound, whether it is included, upper bound, excluded).
_BOUNDS: dict[str, tuple[float, bool, float]] = {
    "rank": (1, True, math.inf),
    "tokens": (1, True, math.inf),
    "layers": (1, True, math.inf),
    "k": (1, True, math.inf),
    "scale": (0, False, math.inf),
    "lr": (0, False, math.inf),
    "weight_decay": (0, True, math.inf),
    "dropout": (0, True, 1),
    "drop_path": (0, True, 1),
    "penalty": (0, False, math.inf),
}


_WHOLE = ("rank", "tokens", "layers", "k")


def parse(name: str, raw: Any, options: Sequence[Value] = ()) -> Dimension:
    """A hyperparameter's dimension from its YAML value.

    options: the allowed values, if the hyperparameter chooses a variant of the method.

    Raises:
        ValueError: the value has none of the forms, or lies outside the hyperparameter's bounds.
    """
    if options:
        if not any(raw is option or raw == option for option in options):
            raise ValueError(f"{name} must be one of {', '.join(map(str, options))}, found {raw!r}")
        return Choice((raw,))
    dimension, values = _form(raw)
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


def _form(raw: Any) -> tuple[Dimension, tuple[float, ...]]:
    """A dimension of numbers, and its values or its two bounds."""
    if _number(raw):
        return Choice((raw,)), (raw,)
    if isinstance(raw, list) and raw and all(_number(value) for value in raw):
        return Choice(tuple(raw)), tuple(raw)
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
            return Range(float(low), float(high), kind == "log"), (low, high)
    raise ValueError(
        "expected a number, a list of numbers, {log: [low, high]} or {uniform: [low, high]}, "
        f"found {raw!r}" + _exponent_hint(raw)
    )


def _number(raw: Any) -> bool:
    return isinstance(raw, (int, float)) and not isinstance(raw, bool) and math.isfinite(raw)


def _exponent_hint(raw: Any) -> str:
    """A hint for numbers such as 1e-3, which YAML reads as text."""
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


def size(space: Space) -> float:
    """The number of configurations; infinite if a dimension is a range."""
    return math.prod(dimension.size for dimension in space.values())


def random_configs(space: Space, seed: int, count: int) -> list[Config]:
    """The first `count` random configurations of a study, or the whole space if it is smaller.

    Each has its own generator, so a larger `count` only appends to the same sequence.
    """
    if size(space) <= count:
        return grid_configs(space)
    configs: dict[tuple[Value, ...], Config] = {}
    for index in itertools.count():
        if len(configs) == count:
            break
        draws = random.Random(f"{seed}/{index}")
        config = {name: dimension.sample(draws) for name, dimension in sorted(space.items())}
        configs.setdefault(tuple(config.values()), config)
    return list(configs.values())


def grid_configs(space: Space) -> list[Config]:
    """All combinations of the choices.

    Raises:
        ValueError: a dimension is a range.
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


def nearest_config(space: Space, config: Mapping[str, Value]) -> Config:
    """The configuration of a space that is nearest to another one, which may be partial."""
    found: dict[str, Value] = {}
    for name, dimension in sorted(space.items()):
        lowest = dimension.values[0] if isinstance(dimension, Choice) else dimension.low
        found[name] = dimension.nearest(config.get(name, lowest))
    return found


def features(space: Space, config: Mapping[str, Value]) -> list[float]:
    """A configuration as a point of the unit cube; a fixed hyperparameter has no coordinate."""
    return [x for name in sorted(space) for x in space[name].features(config[name])]


def format_config(config: Mapping[str, Value]) -> str:
    """A configuration on one line: `lr 0.003  rank 50`."""
    return "  ".join(f"{name} {format_value(value)}" for name, value in config.items())


def format_value(value: Value) -> str:
    """A number in its shortest form; a name or a boolean unchanged."""
    return str(value) if isinstance(value, str | bool) else f"{value:g}"

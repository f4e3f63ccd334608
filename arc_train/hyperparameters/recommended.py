"""The space that is searched for a method."""

from collections.abc import Mapping
from typing import Any

from arc_train.hyperparameters.space import Space, parse
from arc_train.methods import METHODS, recommended


def space_of(method: str, overrides: Mapping[str, Any]) -> Space:
    """The method's recommended space, changed where a hyperparameter is given.

    overrides: values as a sweep file has them (space.py).

    Raises:
        ValueError: a hyperparameter that the method lacks, or a value that is none.
    """
    options = METHODS[method].options
    space = recommended(method).space
    for name in overrides:
        if name not in {**space, **options}:
            known = ", ".join([*space, *options])
            raise ValueError(f"{method} has no hyperparameter {name!r}; it has {known}")
    raw = {**space, **overrides}
    return {name: parse(name, value, options.get(name, ())) for name, value in raw.items()}

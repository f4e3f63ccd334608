"""Environment variables in a sweep file."""

import os
import re
from typing import Any


def fill_in(value: Any, key: str, faults: list[str]) -> Any:
    """A text with each ${NAME} replaced from the environment."""
    if not isinstance(value, str):
        return value
    faults += [
        f"environment variable {name} is not set, found {value!r} at {key}"
        for name in re.findall(r"\$\{(\w+)\}", value)
        if name not in os.environ
    ]
    return re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], m[0]), value)

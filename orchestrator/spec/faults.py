"""The messages about faults in a sweep file: what is wrong, where, and what is allowed."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from orchestrator.spec.model import Spec


def explain(detail: dict[str, Any]) -> str:
    """The message for one of pydantic's errors."""
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in detail["loc"]).lstrip(".")
    if detail["type"] == "missing":
        return f"{key} is missing"
    if detail["type"] == "extra_forbidden":
        return unknown("key", str(detail["loc"][-1]), key, _keys_beside(detail["loc"]))
    found = detail["input"]
    reason = detail["msg"].removeprefix("Input should be ")
    if detail["type"] == "string_pattern_mismatch":
        reason = "of letters, digits, '.', '_' and '-', a letter or digit first"
    if detail["type"].startswith("bool_"):
        reason = "true or false"
    near = ""
    if detail["type"] == "literal_error" and isinstance(found, str):
        near = nearest(found, re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return f"{key} must be {reason}, found {found!r}{near}"


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    """The allowed keys in the place of an unknown one."""
    model: Any = Spec
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        model = next(_models(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models among the types of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def unknown(
    what: str, found: Any, where: str, allowed: Collection[str], list_all: bool = True
) -> str:
    """The message for a name that isn't among the allowed ones."""
    known = f"; allowed: {', '.join(allowed)}" if list_all else ""
    return f"unknown {what} {found!r} at {where}{nearest(str(found), allowed)}{known}"


def nearest(found: str, allowed: Iterable[str]) -> str:
    """`; did you mean ...?` with the nearest allowed name; empty if none is near."""
    options = list(allowed)
    close = difflib.get_close_matches(found, options, n=1, cutoff=0.5)
    if not close:
        # cifar100 for vtab/cifar100
        close = [option for option in options if option.split("/")[-1] == found][:1]
    return f"; did you mean {close[0]!r}?" if close else ""


def duplicates(names: list[Any], where: str) -> list[str]:
    """A message for each name that stands twice."""
    texts = [str(name) for name in names]
    return [f"{n!r} stands twice at {where}" for n in sorted(set(texts)) if texts.count(n) > 1]

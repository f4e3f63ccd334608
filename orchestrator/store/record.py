"""A typed value as a JSON file, and back: the one place that knows how records lie on disk.

Every record says the version of its format. Files from before there were versions are of version 1.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from arc_train.errors import InputError

VERSION = 2  # 2: `version` itself; all else is as in version 1
STRICT = ConfigDict(strict=True, allow_inf_nan=False)

T = TypeVar("T")


class Unreadable(InputError):
    """A file that doesn't hold what its place says; whoever only looks leaves it aside."""


def read(adapter: TypeAdapter[T], path: Path, what: str) -> T:
    """The value that a file holds; what: what it should be, for the error.

    Raises:
        Unreadable: the file holds something else, or comes from a newer arc-sweep; names the key.
    """
    try:
        content = from_json(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"can't read {path}: {error.strerror}") from error
    except ValueError:
        raise _damaged(path, what, "it isn't JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, what, "it isn't a JSON object")
    version = content.setdefault("version", 1)
    if type(version) is not int or version < 1:
        raise _damaged(path, what, f"version: {version!r} is no version")
    if version > VERSION:
        raise Unreadable(
            f"{path} is of format {version}, and this arc-sweep reads up to {VERSION}: "
            "use the arc-sweep that wrote it, or a newer one"
        )
    try:
        return adapter.validate_json(to_json(content, inf_nan_mode="constants"))
    except ValidationError as error:
        raise _damaged(path, what, _reason(error)) from None


def plain(adapter: TypeAdapter[T], value: T) -> dict[str, Any]:
    """A value as plain data, its version first."""
    content: Mapping[str, Any] = adapter.dump_python(value)
    return {"version": VERSION, **content}


def text(content: Mapping[str, Any]) -> str:
    """Plain data as a file's text.

    Raises:
        ValueError: a number that isn't finite.
    """
    return json.dumps(content, indent=1, allow_nan=False)


def _damaged(path: Path, what: str, why: str) -> Unreadable:
    return Unreadable(f"{path} is damaged ({what}: {why})")


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong, with its key."""
    first = error.errors(include_url=False, include_context=False)[0]
    # Of a union pydantic names the member that it tried, too.
    key = ".".join(str(part) for part in first["loc"] if part not in ("int", "float", "str"))
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message

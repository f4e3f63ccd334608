"""A typed value as a JSON file, and back: the one place that knows how records lie on disk.

Every record says the version of its format, and carries a digest of all that it says, so that none
is taken for another. Files from before there were versions are of version 1.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from arc_train import digest
from arc_train.errors import InputError

VERSION = 3  # 2: `version` itself. 3: `digest`, the last key. All else is as in version 1.
STRICT = ConfigDict(strict=True, allow_inf_nan=False)
VALUE_TYPES = ("bool", "int", "float", "str")  # of a hyperparameter

T = TypeVar("T")


class Unreadable(InputError):
    """A file that doesn't hold what its place says; whoever only looks leaves it aside."""


class DamagedFile(Unreadable):
    """A file of ours isn't as it was written; path: which one. why: how that is known."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why})")
        self.path, self.why = path, why


class Named(Protocol):
    """A value that has an id, which is its file's name."""

    @property
    def id(self) -> str:
        """The id."""


N = TypeVar("N", bound=Named)


def read(adapter: TypeAdapter[T], path: Path, what: str) -> T:
    """The value that a file holds; what: what it should be, for the error.

    Raises:
        DamagedFile: the file holds something else, or isn't as it was written; names the key.
        Unreadable: it can't be read, or comes from a newer arc-sweep.
    """
    try:
        content = from_json(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"can't read {path}: {error.strerror}") from error
    except ValueError:
        raise _damaged(path, what, "it isn't JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, what, "it isn't a JSON object")
    says = content.pop("digest", None)  # before all else: a flipped bit makes versions, too
    if says is not None and says != _digest(content):
        raise _damaged(path, what, "its content doesn't match its digest")
    version = content.setdefault("version", 1)
    if type(version) is not int or version < 1:
        raise _damaged(path, what, f"version: {version!r} is no version")
    if version > VERSION:
        raise Unreadable(
            f"{path} is of format {version}, and this arc-sweep reads up to {VERSION}: "
            "use the arc-sweep that wrote it, or a newer one"
        )
    if says is None and version >= 3:
        raise _damaged(path, what, "it has no digest")
    try:
        return adapter.validate_json(to_json(content, inf_nan_mode="constants"))
    except ValidationError as error:
        raise _damaged(path, what, _reason(error)) from None


def read_each(folder: Path, read: Callable[[Path], N]) -> tuple[list[N], list[Unreadable]]:
    """What the JSON files of a folder hold, in a fixed order, and what is wrong with others."""
    values: list[N] = []
    unreadable: list[Unreadable] = []
    try:
        paths = [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    except FileNotFoundError:
        return [], []
    except OSError as error:  # a glob would find nothing
        return [], [Unreadable(f"can't read {folder}: {error.strerror}")]
    for path in paths:
        try:
            values.append(read(path))
        except Unreadable as error:
            unreadable.append(error)
    return values, unreadable


def named(path: Path, read: Callable[[Path], N]) -> N:
    """What a file holds, if it bears that one's name.

    Raises:
        DamagedFile: it holds the record of another file, as copies do.
    """
    value = read(path)
    if value.id != path.stem:
        raise DamagedFile(path, f"it holds the record of {value.id}")
    return value


def plain(adapter: TypeAdapter[T], value: T) -> dict[str, Any]:
    """A value as plain data, its version first."""
    content: Mapping[str, Any] = adapter.dump_python(value)
    return {"version": VERSION, **content}


def text(content: Mapping[str, Any]) -> str:
    """Plain data as a file's text.

    Raises:
        ValueError: a number that isn't finite.
    """
    return json.dumps({**content, "digest": _digest(content)}, indent=1, allow_nan=False)


def _digest(content: Mapping[str, Any]) -> str:
    """Of what a record says, however it is spaced."""
    return digest.digest(json.dumps(content, sort_keys=True).encode()).hex()


def _damaged(path: Path, what: str, why: str) -> DamagedFile:
    return DamagedFile(path, f"{what}: {why}")


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong, with its key."""
    first = error.errors(include_url=False, include_context=False)[0]
    # Of a union pydantic names the member that it tried, too.
    key = ".".join(str(part) for part in first["loc"] if part not in VALUE_TYPES)
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message

"""Methods of the user's own: modules on the Python path, by their dotted names.

Such a module has what a file in this folder has, `attach` and `fold`, or a `METHOD` that says more.
"""

import ast
import hashlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from arc_train.errors import InputError
from arc_train.methods import METHODS, Method

OF_THE_OPTIMISER = {"lr", "weight_decay"}


@dataclass(frozen=True)
class Source:
    """The code of a method of the user's own.

    digest: 16 hex digits of the module's source and of all that it imports from its own top
    package. folder: what has to be on the Python path.
    """

    digest: str
    folder: str


@cache
def load(name: str) -> Method:
    """The method of a module.

    Raises:
        InputError: there is no such module, it fails, it has no method, or its name is a
            built-in's.
    """
    last = name.rpartition(".")[2]
    if last in METHODS:
        raise InputError(f"method {name!r} is called as the built-in {last!r}: rename the module")
    module = _module(name)
    method = getattr(module, "METHOD", None)
    if method is None:
        lacking = [part for part in ("attach", "fold") if not callable(getattr(module, part, None))]
        if lacking:
            raise InputError(
                f"method {name!r}: {module.__file__} has neither METHOD nor "
                f"{' and '.join(lacking)}; docs/add-a-method.md says what they do"
            )
        method = Method(module.attach, module.fold)
    if not isinstance(method, Method):
        raise InputError(
            f"method {name!r}: METHOD of {module.__file__} must be an arc_train.methods.Method, "
            f"found {type(method).__name__}"
        )
    _check_arguments(name, method)
    return method


def source(name: str) -> Source:
    """The code of a method, as it lies on this machine's disk.

    Raises:
        InputError: as `load`, or a module without a source file.
    """
    load(name)
    files = _files(name)
    if name not in files:
        raise InputError(f"method {name!r} has no source file, which its results are named by")
    digest = hashlib.sha256()
    for module in sorted(files):
        content = files[module].read_bytes()
        digest.update(f"{module}|{len(content)}|".encode() + content)
    folder = files[name].parents[name.count(".") + (files[name].name == "__init__.py")]
    return Source(digest.hexdigest()[:16], str(folder))


def require(name: str, wanted: Source) -> None:
    """Have a method as the driver has it; its folder joins this process's Python path.

    Raises:
        InputError: it isn't here, or its source is another.
    """
    if wanted.folder not in sys.path:
        sys.path.append(wanted.folder)
    here = source(name)
    if here.digest != wanted.digest:
        raise InputError(
            f"method {name!r}: this node's source in {here.folder} differs from the driver's "
            f"({here.digest}, not {wanted.digest})"
        )


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise InputError(
                f"method {name!r}: no module {error.name!r} is on the Python path "
                "(PYTHONPATH adds folders to it)"
            ) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:  # whatever the user's code does
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> InputError:
    """What a module failed with, and where, in one line."""
    if isinstance(error, SyntaxError):
        place, reason = f"{error.filename}:{error.lineno}", error.msg
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place, reason = f"{frame.filename}:{frame.lineno}", " ".join(str(error).split())
    return InputError(
        f"method {name!r} can't be imported: {type(error).__name__} at {place}: {reason}"
    )


def _check_arguments(name: str, method: Method) -> None:
    """`attach` takes what is searched."""
    _, _, *taken = signature(method.attach).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in taken):
        return
    defaults = {parameter.name: parameter.default for parameter in taken}
    searched = {*method.space, *method.first, *method.options, *(["rank"] if method.ranked else [])}
    for wanted in sorted(searched - OF_THE_OPTIMISER):
        if wanted not in defaults:
            raise InputError(f"method {name!r}: attach takes no {wanted!r}, which is searched")
    for given, default in defaults.items():
        if default is Parameter.empty:
            raise InputError(f"method {name!r}: {given!r} of attach needs a default")


def _files(name: str) -> dict[str, Path]:
    """The source files of a module and of what it imports from its top package, by module."""
    top = name.split(".")[0]
    found: dict[str, Path] = {}
    waiting = {name}
    while waiting:
        spec = _spec(waiting.pop())
        if spec is None or spec.name in found or not (spec.origin or "").endswith(".py"):
            continue
        found[spec.name] = Path(str(spec.origin))
        waiting |= {other for other in _imports(spec) if other.split(".")[0] == top}
    return found


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # an attribute of a module
        return None


def _imports(spec: ModuleSpec) -> Iterator[str]:
    """The names that a module's source imports: modules, and perhaps their attributes."""
    for node in ast.walk(ast.parse(Path(str(spec.origin)).read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), spec.parent)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)

"""A sweep file: YAML, overrides and the environment -> a checked Spec, or every fault in it."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from arc_train.backbones import ARC_PICO
from arc_train.backbones import exists as timm_knows
from arc_train.backbones import names as backbone_names
from arc_train.errors import InputError
from arc_train.methods import METHODS, recommended
from arc_train.tasks.catalog import catalog, groups
from orchestrator.search.space import grid_configs, parse
from orchestrator.spec.faults import duplicates, explain, unknown
from orchestrator.spec.model import Spec
from orchestrator.store.remote import SCHEMES

DEFAULT_BACKBONE = "vit_base_patch16_224.augreg_in21k"


def load(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """Read and check a sweep file.

    overrides: settings `key.path=value`, the value in YAML.

    Raises:
        InputError: lists every fault on its own line: what, where, what is allowed.
    """
    return resolve(read(path, overrides), str(path))


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A sweep file with overrides as plain data, unchecked.

    Raises:
        InputError: the file can't be read, or an override doesn't fit into it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read sweep file {path}: {_reason(error)}") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path} must be a mapping with keys such as name, tasks, methods")
    for override in overrides:
        _override(raw, override)
    return raw


def resolve(raw: Mapping[str, Any], where: str) -> Spec:
    """A checked Spec from plain data; `where` names the file in messages.

    Raises:
        InputError: as `load`.
    """
    data: dict[str, Any] = dict(raw)
    faults: list[str] = []
    for key in ("tasks", "methods", "backbones"):
        if isinstance(data.get(key), str):
            data[key] = [data[key]]
    if "backbone" in data and "backbones" not in data:
        data["backbones"] = [data.pop("backbone")]
    data.setdefault("backbones", [DEFAULT_BACKBONE])
    data["storage"], fault = _with_environment(data.get("storage", "results"), "storage")
    faults += fault
    if isinstance(data.get("data"), dict):
        data["data"] = dict(data["data"])
        for key in ("root", "cache"):
            data["data"][key], fault = _with_environment(data["data"].get(key), f"data.{key}")
            faults += fault
    if isinstance(data.get("tasks"), list):
        data["tasks"], fault = _tasks(data["tasks"])
        faults += fault
    if isinstance(data.get("methods"), list):
        for i, method in enumerate(data["methods"]):
            if not isinstance(method, str) or method not in METHODS:
                faults.append(unknown("method", method, f"methods[{i}]", METHODS))
        faults += duplicates(data["methods"], "methods")
    if isinstance(data["backbones"], list):
        data["backbones"], fault = _backbones(data["backbones"])
        faults += fault
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        faults += [explain(dict(detail)) for detail in error.errors()]
    else:
        if not faults:
            faults += _combinations(spec)
    if faults:
        raise InputError("\n".join(f"{fault} in {where}" for fault in faults))
    return spec


def dump(spec: Spec) -> str:
    """The resolved spec as YAML, loadable again."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)


def _tasks(names: list[Any]) -> tuple[list[Any], list[str]]:
    """The tasks with groups expanded; and faults."""
    tasks: list[Any] = []
    faults = []
    for i, name in enumerate(names):
        if isinstance(name, str) and name in groups():
            tasks += [task for task in groups()[name] if task not in tasks]
            continue
        tasks.append(name)
        if not isinstance(name, str) or name not in catalog():
            faults.append(unknown("task", name, f"tasks[{i}]", [*catalog(), *groups()]))
    return tasks, faults + duplicates(tasks, "tasks")


def _backbones(entries: list[Any]) -> tuple[list[Any], list[str]]:
    """The backbones as mappings with a name, a model and a path of weights; and faults."""
    resolved: list[Any] = []
    faults = []
    for i, entry in enumerate(entries):
        where = f"backbones[{i}]"
        if isinstance(entry, str):
            if entry == ARC_PICO.name:
                # Written as its name, so that a sweep's spec.yaml holds no path of a machine.
                resolved.append({"name": ARC_PICO.name, "model": ARC_PICO.name})
                continue
            entry = {"name": entry, "model": entry}
        elif isinstance(entry, dict):
            entry = dict(entry)
            if "model" in entry:
                entry.setdefault("name", entry["model"])
            elif "name" in entry:
                entry["model"] = entry["name"]
            weights = entry.get("weights", "timm")
            entry["weights"], fault = _with_environment(weights, f"{where}.weights")
            faults += fault
            if isinstance(entry["weights"], str) and entry["weights"] not in ("timm", "random"):
                path = Path(entry["weights"]).expanduser()
                entry["weights"] = str(path.resolve())
                if not fault and not path.is_file():
                    faults.append(f"no weights file {path} at {where}.weights")
        model = entry.get("model") if isinstance(entry, dict) else None
        if isinstance(model, str) and model != ARC_PICO.name and not timm_knows(model):
            faults.append(unknown("backbone", model, where, backbone_names(), list_all=False))
        resolved.append(entry)
    labels = [entry.get("name") for entry in resolved if isinstance(entry, dict)]
    return resolved, faults + duplicates(labels, "backbones")


def _combinations(spec: Spec) -> list[str]:
    """Faults in combinations of keys."""
    faults = []
    for method, overrides in spec.search.space.items():
        if method not in METHODS:
            faults.append(unknown("method", method, f"search.space.{method}", METHODS))
            continue
        for name, value in overrides.items():
            key = f"search.space.{method}.{name}"
            known = {**recommended(method).space, **METHODS[method].options}
            if name not in known:
                faults.append(unknown("hyperparameter", name, key, known))
                continue
            try:
                parse(name, value, METHODS[method].options.get(name, ()))
            except ValueError as error:
                faults.append(f"{error} at {key}")
    if not faults and spec.search.algorithm == "grid":
        for method in spec.methods:
            try:
                grid_configs(spec.space(method))
            except ValueError as error:
                faults.append(f"{error} at search.space.{method} with search.algorithm: grid")
    if spec.training.warmup_epochs > spec.training.epochs:
        faults.append(
            f"training.warmup_epochs {spec.training.warmup_epochs:g} is longer than "
            f"training.epochs {spec.training.epochs}"
        )
    if len(set(spec.finals.seeds)) < len(spec.finals.seeds):
        faults.append(f"a seed stands twice at finals.seeds: {spec.finals.seeds}")
    scheme, is_uri, _ = spec.storage.partition("://")
    if is_uri and scheme not in SCHEMES:
        faults.append(
            f"storage {spec.storage!r} must be a folder, or a URI with "
            f"{' or '.join(f'{known}://' for known in SCHEMES)}"
        )
    return faults


def _with_environment(value: Any, key: str) -> tuple[Any, list[str]]:
    """A value in which ${NAME} is replaced from the environment; and faults."""
    if not isinstance(value, str):
        return value, []
    names = re.findall(r"\$\{(\w+)\}", value)
    faults = [
        f"environment variable {name} is not set, found {value!r} at {key}"
        for name in names
        if name not in os.environ
    ]
    return re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], m[0]), value), faults


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override!r}: expected KEY=VALUE, such as search.trials=4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override!r}: the value is not valid YAML") from error
    place: Any = raw
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {override!r}: {parent} has no keys below it")
    place[last] = value


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

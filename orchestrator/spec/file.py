"""A sweep file: YAML, overrides and the environment -> a checked Spec, or every fault in it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from arc_train.backbone import ARC_PICO
from arc_train.errors import InputError
from arc_train.hyperparameters.space import grid_configs, parse
from arc_train.methods import METHODS, recommended
from arc_train.tasks.catalog import catalog, groups
from orchestrator.spec.faults import duplicates, explain, unknown
from orchestrator.spec.model import Spec
from orchestrator.spec.own import own_task
from orchestrator.spec.task import TaskSpec
from orchestrator.spec.variables import fill_in
from orchestrator.spec.yaml_text import parse_yaml
from orchestrator.store.remote import SCHEMES
from orchestrator.store.resolved_spec import read_spec

DEFAULT_BACKBONE = "vit_base_patch16_224.augreg_in21k"


def load(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """Read and check a sweep file.

    overrides: settings `key.path=value`, the value in YAML.

    Raises:
        InputError: lists every fault on its own line: what, where, what is allowed.
    """
    return resolve(read(path, overrides), str(path))


def load_resolved(path: Path) -> Spec:
    """The spec in a sweep's folder, resolved when the sweep ran.

    What it names may be elsewhere or unknown here by now: nothing of that is looked for.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return Spec.model_validate(parse_yaml(read_spec(path), str(path)))
    except ValidationError as error:
        fault = explain(dict(error.errors()[0]))
        raise InputError(f"{path} is damaged ({fault})") from None


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A sweep file with overrides as plain data, unchecked.

    Raises:
        InputError: the file can't be read, or an override doesn't fit into it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read sweep file {path}: {_reason(error)}") from error
    raw = parse_yaml(text, str(path))
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
    faults: list[str] = []
    data = _expand(raw, faults)
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


def _expand(raw: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """The mapping that Spec validates: names in lists, groups as tasks, variables as values."""
    data = dict(raw)
    for key in ("tasks", "methods", "backbones"):
        if isinstance(data.get(key), str):
            data[key] = [data[key]]
    if "backbone" in data and "backbones" not in data:
        data["backbones"] = [data.pop("backbone")]
    data.setdefault("backbones", [DEFAULT_BACKBONE])
    data["storage"] = fill_in(data.get("storage", "results"), "storage", faults)
    if isinstance(data.get("data"), dict):
        data["data"] = dict(data["data"])
        for key in ("root", "cache"):
            data["data"][key] = fill_in(data["data"].get(key), f"data.{key}", faults)
    if isinstance(data.get("search"), dict) and "learn_from" in data["search"]:
        data["search"] = dict(data["search"])
        data["search"]["learn_from"] = _expand_places(data["search"]["learn_from"], faults)
    if isinstance(data.get("tasks"), list):
        data["tasks"] = _expand_tasks(data["tasks"], faults)
    if isinstance(data.get("methods"), list):
        for i, method in enumerate(data["methods"]):
            _known_method(method, f"methods[{i}]", faults)
        faults += duplicates(data["methods"], "methods")
    if isinstance(data["backbones"], list):
        places = [f"backbones[{i}]" for i in range(len(data["backbones"]))]
        entries = zip(data["backbones"], places, strict=True)
        data["backbones"] = [_expand_backbone(entry, place, faults) for entry, place in entries]
        labels = [entry.get("name") for entry in data["backbones"] if isinstance(entry, dict)]
        faults += duplicates(labels, "backbones")
    return data


def _known_method(method: Any, key: str, faults: list[str]) -> bool:
    """Whether this is a method, of ours or of the user's own."""
    try:
        METHODS[method]
    except InputError as error:
        faults.append(f"{error} at {key}")
    except (KeyError, TypeError):
        faults.append(unknown("method", method, key, METHODS))
    else:
        return True
    return False


def _expand_tasks(entries: list[Any], faults: list[str]) -> list[str | TaskSpec]:
    """Names of the catalogue, with groups opened, and tasks of the user's own."""
    tasks: list[str | TaskSpec] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, dict):
            tasks.append(own_task(entry, i, faults))
        elif isinstance(entry, str) and entry in groups():
            tasks += [task for task in groups()[entry] if task not in tasks]
        else:
            tasks.append(str(entry))
            if not isinstance(entry, str) or entry not in catalog():
                faults.append(unknown("task", entry, f"tasks[{i}]", [*catalog(), *groups()]))
    faults += duplicates([t if isinstance(t, str) else t.name for t in tasks], "tasks")
    return tasks


def _expand_backbone(entry: Any, place: str, faults: list[str]) -> Any:
    """A backbone as a mapping with its name, its timm model and the path of its weights."""
    if entry == ARC_PICO.name:
        # The name stands for the embedded weights, so that spec.yaml holds no path of a machine.
        return {"name": ARC_PICO.name, "model": ARC_PICO.name}
    if isinstance(entry, str):
        entry = {"name": entry, "model": entry}
    elif isinstance(entry, dict):
        entry = dict(entry)
        if "model" in entry:
            entry.setdefault("name", entry["model"])
        elif "name" in entry:
            entry["model"] = entry["name"]
        entry["weights"] = _expand_weights(entry.get("weights", "timm"), f"{place}.weights", faults)
    model = entry.get("model") if isinstance(entry, dict) else None
    if isinstance(model, str) and model != ARC_PICO.name:
        from arc_train import backbones  # timm and torch are slow to import

        if not backbones.exists(model):
            faults.append(unknown("backbone", model, place, backbones.names(), list_all=False))
    return entry


def _expand_places(places: Any, faults: list[str]) -> Any:
    """Folders of sweeps, or one, with variables as values."""
    if isinstance(places, str):
        places = [places]
    if not isinstance(places, list):
        return places
    keys = (f"search.learn_from[{i}]" for i in range(len(places)))
    return [fill_in(place, key, faults) for place, key in zip(places, keys, strict=False)]


def _expand_weights(weights: Any, key: str, faults: list[str]) -> Any:
    """`timm`, `random`, or the path of a file, as it was given."""
    before = len(faults)
    weights = fill_in(weights, key, faults)
    if not isinstance(weights, str) or weights in ("timm", "random"):
        return weights
    path = Path(weights).expanduser()
    if len(faults) == before and not path.is_file():
        faults.append(f"no weights file {path} at {key}")
    return str(path)


def _combinations(spec: Spec) -> list[str]:
    """Faults in combinations of keys."""
    faults = _hyperparameters(spec)
    if not faults and spec.search.algorithm == "grid":
        faults += dict.fromkeys(_ranges(spec))  # of a method one, not one for each task
    if spec.search.learn_from and spec.search.algorithm != "portfolio":
        faults.append(
            f"search.learn_from needs search.algorithm: portfolio, found {spec.search.algorithm}"
        )
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


def _ranges(spec: Spec) -> Iterator[str]:
    """Ranges where a grid needs lists."""
    for study in spec.studies:
        try:
            grid_configs(spec.study_space(study))
        except ValueError as error:
            yield f"{error} at search.space.{study.method} with search.algorithm: grid"


def _hyperparameters(spec: Spec) -> list[str]:
    """Faults in what is searched and what is fixed."""
    faults: list[str] = []
    for method, overrides in spec.search.space.items():
        if _known_method(method, f"search.space.{method}", faults):
            faults += _values(method, overrides, f"search.space.{method}", False)
    studies = {str(study): study for study in spec.studies}
    for name, config in spec.search.fixed.items():
        if name in studies:
            faults += _values(studies[name].method, config, f"search.fixed.{name}", True)
        else:
            faults.append(unknown("study", name, "search.fixed", studies, list_all=False))
    return faults


def _values(method: str, given: Mapping[str, Any], where: str, fixed: bool) -> Iterator[str]:
    """Faults in values of a method's hyperparameters; fixed: each must be one value."""
    options = METHODS[method].options
    known = {**recommended(method).space, **options}
    for name, value in given.items():
        key = f"{where}.{name}"
        if name not in known:
            yield unknown("hyperparameter", name, key, known)
            continue
        try:
            several = parse(name, value, options.get(name, ())).size > 1
        except ValueError as error:
            yield f"{error} at {key}"
            continue
        if fixed and several:
            yield f"{key} must be one value, found {value!r}"


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override!r}: expected KEY=VALUE, such as search.trials=4")
    value = parse_yaml(text, f"--set {override!r}")
    place: Any = raw
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {override!r}: {parent} has no keys below it")
    place[last] = value


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

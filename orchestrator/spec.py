"""The sweep file: YAML -> a typed, validated Spec. Every fault is found before anything runs."""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arc_train.backbones import ARC_PICO, Backbone
from arc_train.backbones import exists as timm_knows
from arc_train.backbones import names as backbone_names
from arc_train.errors import InputError
from arc_train.methods import METHODS, recommended
from arc_train.tasks.cache import default_folder
from arc_train.tasks.catalog import catalog, groups
from arc_train.tasks.hub import Draw
from orchestrator.search.space import Space, grid_configs, parse
from orchestrator.store.remote import SCHEMES, below, is_remote


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HalvingSpec(_Part):
    """Rungs at epochs start, start*eta, ...; at each, 1/eta of the pack's trials go on."""

    start: int = Field(10, ge=1)
    eta: int = Field(3, ge=2)


class SearchSpec(_Part):
    """How each study is searched. `space` overrides the methods' recommended spaces.

    rounds: of portfolio and tpe, which propose a study's trials in so many parts and learn from
    each. More find more in fewer trials, in smaller packs.
    """

    algorithm: Literal["portfolio", "random", "grid", "tpe"] = "portfolio"
    trials: int = Field(16, ge=1, le=100_000)
    rounds: int = Field(2, ge=1)
    halving: HalvingSpec | None = HalvingSpec()
    space: dict[str, dict[str, Any]] = {}


class TrainingSpec(_Part):
    """The recipe of every trial (arc_train.training.Recipe)."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(32, ge=1)
    warmup_epochs: float = Field(10, ge=0)
    clip: float = Field(1.0, gt=0)


class SelectionSpec(_Part):
    """revalidate: how many of a study's best trials are validated again, each under `seeds` other
    seeds and to the last epoch, before the best mean wins. 0: the search alone decides. Only
    trials that no rung stopped stand for it: with few of those, turn halving off.
    """

    revalidate: int = Field(0, ge=0)
    seeds: int = Field(2, ge=1)


class FinalsSpec(_Part):
    """Seeds under which each study's winner is refitted and tested once."""

    seeds: list[int] = Field([0, 1, 2], min_length=1)


class ProtocolSpec(_Part):
    """final_on: images a final trains on. (FGVC's published numbers use `train`.)

    leak_meter: finals are also tested after every epoch, when nothing is left to choose, to show
    what "best epoch on test" would have claimed.
    """

    final_on: Literal["train+val", "train"] = "train+val"
    leak_meter: bool = False


class DataSpec(_Part):
    """root: folder that holds the tasks' folders; or hub, or stand-ins, or stand-ins/500 for few.

    cache: the node's cache of decoded images. draw, draw_seed: how images are drawn from a data
    set of the hub, which has no list of the published ones (arc_train.tasks.hub.Draw).
    """

    root: str | None = None
    cache: str | None = None
    normalise: Literal["backbone", "imagenet"] = "backbone"
    draw: Literal["uniform", "stratified"] = "uniform"
    draw_seed: int = Field(0, ge=0)


class PackSpec(_Part):
    """size: most trials in one pack. chunk: how many of them are fused at a time.

    memory: GB that the trained weights of a pack may take, with gradients and optimiser state;
    packs of methods that train much (full, partial) are smaller for it.
    """

    size: int = Field(16, ge=1)
    chunk: int = Field(8, ge=1)
    memory: float = Field(8, gt=0)


class ResourcesSpec(_Part):
    """What one pack asks Ray for, and how often it is tried again when its worker dies."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)
    max_failures: int = Field(2, ge=0)


class WandbSpec(_Part):
    """mode auto: online where credentials exist, else offline."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None
    entity: str | None = None


class BackboneSpec(_Part):
    """A backbone given in full; a plain string in the sweep file is a timm model name."""

    name: str
    model: str
    weights: str = "timm"
    args: dict[str, Any] = {}
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def backbone(self) -> Backbone:
        """The same, as arc_train knows it."""
        if self.model == ARC_PICO.name:
            return ARC_PICO
        return Backbone(**self.model_dump())


class Spec(_Part):
    """A sweep."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    tasks: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    backbones: list[BackboneSpec] = Field(min_length=1)
    seed: int = Field(0, ge=0)
    search: SearchSpec = SearchSpec()
    selection: SelectionSpec = SelectionSpec()
    training: TrainingSpec = TrainingSpec()
    finals: FinalsSpec = FinalsSpec()
    protocol: ProtocolSpec = ProtocolSpec()
    data: DataSpec = DataSpec()
    pack: PackSpec = PackSpec()
    resources: ResourcesSpec = ResourcesSpec()
    wandb: WandbSpec = WandbSpec()
    storage: str = "results"

    def space(self, method: str) -> Space:
        """The method's recommended space with this sweep's overrides."""
        raw = {**recommended(method).space, **self.search.space.get(method, {})}
        options = METHODS[method].options
        return {name: parse(name, value, options.get(name, ())) for name, value in raw.items()}

    def backbone(self, name: str) -> Backbone:
        """One of the sweep's backbones, by the name that results have."""
        return next(entry for entry in self.backbones if entry.name == name).backbone()

    @property
    def place(self) -> str:
        """The sweep's folder, `<storage>/<name>`, or the same as a URI in object storage."""
        if is_remote(self.storage):
            return below(self.storage, self.name)
        return str(Path(self.storage).expanduser() / self.name)

    @property
    def data_root(self) -> Path | None:
        """The folder that holds the tasks' folders."""
        return Path(self.data.root).expanduser() if self.data.root else None

    @property
    def draw(self) -> Draw:
        """How images are drawn where no list names them."""
        return Draw(self.data.draw == "stratified", self.data.draw_seed)

    @property
    def cache_folder(self) -> Path:
        """The node's cache of decoded images."""
        return Path(self.data.cache).expanduser() if self.data.cache else default_folder()


DEFAULT_BACKBONE = "vit_base_patch16_224.augreg_in21k"


def load(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """Read and check a sweep file.

    overrides: `key.path=value` settings, the value in YAML.

    Raises:
        InputError: every fault found, one a line: what, where, what is allowed, nearest match.
    """
    return resolve(read(path, overrides), str(path))


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A sweep file with overrides, as plain data, unchecked.

    Raises:
        InputError: it can't be read, or an override has no place in it.
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
    """A checked Spec from plain data; `where` names its origin in messages.

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
                faults.append(_unknown("method", method, f"methods[{i}]", METHODS))
        faults += _doubles(data["methods"], "methods")
    if isinstance(data["backbones"], list):
        data["backbones"], fault = _backbones(data["backbones"])
        faults += fault
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        faults += [_explain(dict(detail)) for detail in error.errors()]
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
    """Groups opened into their tasks."""
    tasks: list[Any] = []
    faults = []
    for i, name in enumerate(names):
        if isinstance(name, str) and name in groups():
            tasks += [task for task in groups()[name] if task not in tasks]
            continue
        tasks.append(name)
        if not isinstance(name, str) or name not in catalog():
            faults.append(_unknown("task", name, f"tasks[{i}]", [*catalog(), *groups()]))
    return tasks, faults + _doubles(tasks, "tasks")


def _backbones(entries: list[Any]) -> tuple[list[Any], list[str]]:
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
            faults.append(_unknown("backbone", model, where, backbone_names(), list_all=False))
        resolved.append(entry)
    labels = [entry.get("name") for entry in resolved if isinstance(entry, dict)]
    return resolved, faults + _doubles(labels, "backbones")


def _combinations(spec: Spec) -> list[str]:
    """Faults that no single key has alone."""
    faults = []
    for method, overrides in spec.search.space.items():
        if method not in METHODS:
            faults.append(_unknown("method", method, f"search.space.{method}", METHODS))
            continue
        for name, value in overrides.items():
            key = f"search.space.{method}.{name}"
            known = {**recommended(method).space, **METHODS[method].options}
            if name not in known:
                faults.append(_unknown("hyperparameter", name, key, known))
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


def _explain(detail: dict[str, Any]) -> str:
    """One pydantic error in our words."""
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in detail["loc"]).lstrip(".")
    if detail["type"] == "missing":
        return f"{key} is missing"
    if detail["type"] == "extra_forbidden":
        return _unknown("key", str(detail["loc"][-1]), key, _keys_beside(detail["loc"]))
    found = detail["input"]
    reason = detail["msg"].removeprefix("Input should be ")
    if detail["type"].startswith("bool_"):
        reason = "true or false"
    near = ""
    if detail["type"] == "literal_error" and isinstance(found, str):
        near = nearest(found, re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return f"{key} must be {reason}, found {found!r}{near}"


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    """The keys allowed where an unknown one was found."""
    model: Any = Spec
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _unknown(
    what: str, found: Any, where: str, allowed: Collection[str], list_all: bool = True
) -> str:
    known = f"; allowed: {', '.join(allowed)}" if list_all else ""
    return f"unknown {what} {found!r} at {where}{nearest(str(found), allowed)}{known}"


def nearest(found: str, allowed: Iterable[str]) -> str:
    """`; did you mean ...?` for the nearest of the allowed names, or nothing."""
    options = list(allowed)
    close = difflib.get_close_matches(found, options, n=1, cutoff=0.5)
    if not close:
        # cifar100 for vtab/cifar100
        close = [option for option in options if option.split("/")[-1] == found][:1]
    return f"; did you mean {close[0]!r}?" if close else ""


def _doubles(names: list[Any], where: str) -> list[str]:
    texts = [str(name) for name in names]
    return [f"{n!r} stands twice at {where}" for n in sorted(set(texts)) if texts.count(n) > 1]


def _with_environment(value: Any, key: str) -> tuple[Any, list[str]]:
    """${NAME} replaced by the environment's value."""
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

"""The catalogue of tasks, read from catalog.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Task:
    """One task. Sizes are images of the published split; `folders` are accepted folder names."""

    key: str
    name: str
    group: str
    classes: int
    train: int
    val: int
    test: int
    folders: tuple[str, ...]


@cache
def catalog() -> dict[str, Task]:
    """All tasks by key, in the order of the published tables."""
    raw = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text())
    return {
        key: Task(key=key, **{**entry, "folders": tuple(entry["folders"])})
        for key, entry in raw.items()
    }


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Names that stand for several tasks in a sweep file: vtab, vtab/natural, fgvc, demo, all."""
    tasks = catalog().values()
    named: dict[str, list[str]] = {}
    for task in tasks:
        benchmark = task.key.split("/")[0]
        names = [benchmark] if benchmark == task.group else [benchmark, f"{benchmark}/{task.group}"]
        for name in names if benchmark == "demo" else [*names, "all"]:
            named.setdefault(name, []).append(task.key)
    return {name: tuple(keys) for name, keys in named.items()}

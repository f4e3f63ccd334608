"""The catalogue of tasks, read from catalog.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Metric = Literal["accuracy", "balanced_accuracy"]
Resize = Literal["squash", "crop"]
Augment = Literal["none", "crop+flip"]


@dataclass(frozen=True)
class Location:
    """Where the images of a user's task lie, and how its labels are found.

    folder: has a folder for each class, lists, or a Hugging Face data set. list: a CSV or text
    file; paths in it start at `folder`, or else where it lies. dataset, subset: on the hub.
    image, label, split: names of columns, where they can't be told.
    """

    folder: Path | None = None
    list: Path | None = None
    dataset: str | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Task:
    """One task: of the catalogue, or a user's own.

    label: what a class means. train, val, test: images of the published split; test_too: other
    sizes that its test split has been published with. folders: accepted names of its folder.
    sources: in order of preference. note: what to know before looking for the images. resize,
    augment: what is done to the images (transform.Transform). metric: what accuracies are, over
    images or the mean over classes. limit: how many training images a search draws; None: it has
    all of them, as finals always do.

    location: of a user's own. Its classes and sizes are 0 until its images have been looked at: the
    task of its source has them. class_names: in order, where they are known.
    """

    key: str
    name: str
    group: str
    metric: Metric = "accuracy"
    classes: int = 0
    label: str = ""
    train: int = 0
    val: int = 0
    test: int = 0
    sources: tuple[str, ...] = ()
    licence: str = ""
    folders: tuple[str, ...] = ()
    test_too: tuple[int, ...] = ()
    note: str | None = None
    resize: Resize = "squash"
    augment: Augment = "none"
    limit: int | None = None
    location: Location | None = None
    class_names: tuple[str, ...] = ()

    def published(self, train: int, val: int, test: int) -> bool:
        """Whether these are the sizes of the published split."""
        return (train, val) == (self.train, self.val) and test in (self.test, *self.test_too)


@cache
def catalog() -> dict[str, Task]:
    """All tasks by key, in the order of the published tables."""
    raw = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text())
    entries = {
        key: benchmark["every"] | entry
        for benchmark in raw.values()
        for key, entry in benchmark["tasks"].items()
    }
    return {key: Task(key=key, **_frozen(entry)) for key, entry in entries.items()}


def _frozen(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}


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

"""Tasks as Hugging Face data sets: from the hub by name, or as the same files in a folder.

A folder may hold what `save_to_disk` wrote, parquet files, webdataset shards or folders of images.
Such a data set has no list of the 1,000 images of VTAB-1k, so they are drawn: every row is ranked
by a hash of its task, split, number and the draw's seed, and the first ones are taken. These are
the same rows on every machine, whatever the versions of libraries; they aren't the published ones,
and results say so.
"""

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task
from arc_train.tasks.dataset import (
    SAVED,
    TABLES,
    DataSetSource,
    Rows,
    column_of,
    features_of,
    find_column,
    has_files,
    load,
)
from arc_train.tasks.labels import DERIVATIONS

# Where each split is looked for, if hub.yaml doesn't say otherwise.
SPLIT_NAMES = {
    "train": ["train"],
    "val": ["validation", "valid", "val", "train"],
    "test": ["test"],
}


@dataclass(frozen=True)
class Draw:
    """How images are drawn where no list names them.

    stratified: as many of each class as there are, as evenly as counts allow; else whatever comes.
    """

    stratified: bool = False
    seed: int = 0


UNIFORM = Draw()


@lru_cache(maxsize=8)
def hub_source(task: Task, folder: Path | None, draw: Draw) -> "HubSource":
    """As HubSource; a process reads a data set's labels, and asks the hub, only once."""
    return HubSource(task, folder, draw)


def on_disk(folder: Path) -> bool:
    """Whether a folder holds a data set."""
    return has_files(folder, (*TABLES, *SAVED, "train/*/*"))


class HubSource(DataSetSource):
    """A task's splits of a data set.

    Args:
        folder: where the data set lies, or None for the hub.

    Raises:
        InputError: it can't be loaded, or its splits, columns or labels aren't the task's.
    """

    def __init__(self, task: Task, folder: Path | None, draw: Draw) -> None:
        super().__init__(task)
        self._entry = _entries().get(task.key, {})
        self._draw = draw
        if folder is None and not self._entry:
            raise InputError(
                f"task {task.key}: no copy on the hub is known that has its classes and split; "
                "set data.root to a folder with its images"
            )
        name = self._entry.get("id", "")
        self.where = name if folder is None else str(folder)
        self.kind = f"hub {self.where}" if folder is None else "data set folder"
        self.drawn_by = draw
        splits = load(task, name, self._entry.get("config"), folder)
        names = {split: self._split_name(split, splits) for split in SPLIT_NAMES}
        self.tables = {name: splits[name] for name in sorted(set(names.values()))}
        self.column, self._label_column, self._derive = self._columns()
        labels = self._labels()
        self.chosen = {}
        self.split = "official"
        for split in ("test", "val", "train"):
            rows = self._chosen(split, names, labels[names[split]])
            self.chosen[split] = (names[split], rows, labels[names[split]][rows])

    def _split_name(self, split: str, splits: Any) -> str:
        wanted = self._entry.get("splits", {}).get(split, SPLIT_NAMES[split])
        for name in wanted:
            if name in splits:
                return str(name)
        raise InputError(
            f"{self.where} has no split for {split} images of {self.task.key}: "
            f"looked for {' or '.join(wanted)}, found {', '.join(splits)}"
        )

    def _columns(self) -> tuple[str, str, str | None]:
        """The image column, the label column, and the derivation of labels."""
        features = features_of(self.tables)
        remedy = "rename_column can name it"
        names = self._entry.get("image", [])
        image = find_column("image", names, features, self.where, remedy)
        for wanted in self._entry.get("label", []):
            column, derive = (
                next(iter(wanted.items())) if isinstance(wanted, dict) else (wanted, None)
            )
            if column in features:
                return image, column, derive
        derived = [w for w in self._entry.get("label", []) if isinstance(w, dict)]
        if derived:
            raise InputError(
                f"{self.where} has nothing to derive labels of {self.task.key} from: looked for "
                f"{' or '.join(next(iter(w)) for w in derived)}, found {', '.join(features)}"
            )
        return image, find_column("label", [], features, self.where, remedy), None

    def _labels(self) -> dict[str, Rows]:
        """Classes of all rows of the splits; no image is touched."""
        raw = {name: column_of(data, self._label_column) for name, data in self.tables.items()}
        names = {label for labels in raw.values() for label in labels if isinstance(label, str)}
        rank = {label: number for number, label in enumerate(sorted(names))}
        return {
            name: np.array(
                [
                    self._label(label, rank, f"{self.where}: {name}[{i}]")
                    for i, label in enumerate(labels)
                ],
                dtype=np.int64,
            )
            for name, labels in raw.items()
        }

    def _label(self, raw: Any, rank: dict[str, int], where: str) -> int:
        try:
            label = DERIVATIONS[self._derive](raw) if self._derive else _whole(rank.get(raw, raw))
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise InputError(
                f"{where}: no label of {self.task.key} in column {self._label_column}: {error}"
            ) from error
        if not 0 <= label < self.task.classes:
            raise InputError(
                f"{where}: label {label} is out of range; {self.task.key} has "
                f"{self.task.classes} classes, 0 to {self.task.classes - 1}"
            )
        return label

    def _chosen(self, split: str, names: dict[str, str], labels: Rows) -> Rows:
        """The rows of a split: all that there are, or as many as published, drawn."""
        name = names[split]
        taken = [rows for other, rows, _ in self.chosen.values() if other == name]
        free = np.setdiff1d(np.arange(len(labels)), np.concatenate([[], *taken]))
        wanted = {"train": self.task.train, "val": self.task.val, "test": self.task.test}[split]
        shared = list(names.values()).count(name) > 1
        if not shared and (split == "test" or len(free) <= wanted):
            return free
        if len(free) < wanted:
            raise InputError(
                f"{self.where}: the {len(labels):,} images of split {name} are too few for those "
                f"of {' and '.join(s for s in names if names[s] == name)} of {self.task.key}: "
                f"{len(free):,} are left for the {wanted:,} of {split}"
            )
        self.split = "drawn"
        order = np.array(sorted(free.tolist(), key=lambda row: self._rank(name, row)))
        if self._draw.stratified:
            order = order[np.argsort(_turns(labels[order]), kind="stable")]
        return np.sort(order[:wanted])

    def _rank(self, name: str, row: int) -> bytes:
        address = f"{self.task.key}|{self._draw.seed}|{name}|{row}"
        return hashlib.sha256(address.encode()).digest()


def _whole(label: Any) -> int:
    """A label as a whole number; nothing is cut off.

    Raises:
        ValueError: it is none.
    """
    if int(label) != float(label):
        raise ValueError(f"{label!r} is no whole number")
    return int(label)


def _turns(labels: Rows) -> Rows:
    """How many rows of its class stand before each row."""
    turns = np.empty_like(labels)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        turns[own] = np.arange(len(own))
    return turns


@cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("hub.yaml").read_text()
    )
    return entries

"""Tasks as Hugging Face data sets: from the hub by name, or as the same files in a folder.

A folder may hold what `save_to_disk` wrote, parquet files, webdataset shards or folders of images.
Such a data set has no list of the 1,000 images of VTAB-1k, so they are drawn: every row is ranked
by a hash of its task, split, number and the draw's seed, and the first ones are taken. These are
the same rows on every machine, whatever the versions of libraries; they aren't the published ones,
and results say so.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task
from arc_train.tasks.images import from_array, read_image, to_rgb
from arc_train.tasks.labels import DERIVATIONS

Rows = NDArray[np.int64]

# Where each split is looked for, if hub.yaml doesn't say otherwise.
SPLIT_NAMES = {
    "train": ["train"],
    "val": ["validation", "valid", "val", "train"],
    "test": ["test"],
}
TABLES = ("*.parquet", "*.tar", "*.arrow")
ON_DISK = (*TABLES, "dataset_dict.json", "dataset_info.json", "train/*/*")


@dataclass(frozen=True)
class Draw:
    """How images are drawn where no list names them.

    stratified: as many of each class as there are, as evenly as counts allow; else whatever comes.
    """

    stratified: bool = False
    seed: int = 0


UNIFORM = Draw()


@dataclass(frozen=True)
class Row:
    """An image of a split: where it stands, for messages, and its class."""

    where: str
    label: int
    stored: Any
    mask: bool

    def read(self) -> tuple[Image.Image, bytes]:
        """The image as it is stored, loaded, and its bytes.

        Raises:
            InputError: it can't be read.
        """
        if isinstance(self.stored, dict):
            stored = self.stored["bytes"] or Path(self.stored["path"])
            image, content = read_image(stored, self.where)
        else:
            image = from_array(self.stored, self.where)
            content = image.tobytes()
        if self.mask and np.asarray(image).max() <= 1:
            image = Image.fromarray(255 * np.asarray(image, dtype=np.uint8))
        return image, content


@lru_cache(maxsize=8)
def hub_source(task: Task, folder: Path | None, draw: Draw) -> "HubSource":
    """As HubSource; a process reads a data set's labels, and asks the hub, only once."""
    return HubSource(task, folder, draw)


def on_disk(folder: Path) -> bool:
    """Whether a folder holds a data set."""
    return _has(folder, ON_DISK)


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(folder.rglob(pattern), None) for pattern in patterns)


class HubSource:
    """A task's splits of a data set.

    Args:
        folder: where the data set lies, or None for the hub.

    Raises:
        InputError: it can't be loaded, or its splits, columns or labels aren't the task's.
    """

    def __init__(self, task: Task, folder: Path | None, draw: Draw) -> None:
        self.task = task
        self._entry = _entries().get(task.key, {})
        self._draw = draw
        if folder is None and not self._entry:
            raise InputError(
                f"task {task.key}: no copy on the hub is known that has its classes and split; "
                "set data.root to a folder with its images"
            )
        self._where = self._entry["id"] if folder is None else str(folder)
        self._kind = f"hub {self._where}" if folder is None else "data set folder"
        splits = _load(task, self._entry, folder)
        names = {split: self._split_name(split, splits) for split in SPLIT_NAMES}
        self._splits = {name: splits[name] for name in sorted(set(names.values()))}
        self._image, self._column, self._derive = self._columns()
        labels = self._labels()
        self._rows: dict[str, tuple[str, Rows, Rows]] = {}
        self.split = "official"
        for split in ("test", "val", "train"):
            rows = self._chosen(split, names, labels[names[split]])
            self._rows[split] = (names[split], rows, labels[names[split]][rows])

    @property
    def variant(self) -> str:
        """Where it is from, and of the hub which state."""
        sums = next(iter(self._splits.values())).info.download_checksums or {}
        revision = re.search(r"@([0-9a-f]{7,40})/", next(iter(sums), ""))
        return f"{self._kind}@{revision[1][:12]}" if revision else self._kind

    def key(self) -> str:
        """Changes with the data set's files, its labels or the rows that are used."""
        digest = hashlib.sha256(f"{self.task.key}|{self._kind}|{self._draw}".encode())
        for split, (name, rows, labels) in sorted(self._rows.items()):
            digest.update(f"{split}|{name}|{self._splits[name]._fingerprint}".encode())
            digest.update(rows.tobytes() + labels.tobytes())
        return digest.hexdigest()

    def size(self, split: str) -> int:
        return len(self._rows[split][1])

    def labels(self, split: str) -> Rows:
        return self._rows[split][2]

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        for row in self.rows(split):
            image, content = row.read()
            yield to_rgb(image, row.where), content

    def rows(self, split: str) -> Iterator[Row]:
        """The images of a split, none decoded yet."""
        from datasets import Image as ImageFeature

        name, rows, labels = self._rows[split]
        data = self._splits[name].select_columns([self._image])
        if isinstance(data.features[self._image], ImageFeature):
            data = data.cast_column(self._image, ImageFeature(decode=False))
        mask = self.task.key.startswith("vtab/dsprites")
        for number, label in zip(rows.tolist(), labels.tolist(), strict=True):
            where = f"{self._where}: {name}[{number}]"
            yield Row(where, label, data[number][self._image], mask)

    def _split_name(self, split: str, splits: Any) -> str:
        wanted = self._entry.get("splits", {}).get(split, SPLIT_NAMES[split])
        for name in wanted:
            if name in splits:
                return str(name)
        raise InputError(
            f"{self._where} has no split for {split} images of {self.task.key}: "
            f"looked for {' or '.join(wanted)}, found {', '.join(splits)}"
        )

    def _columns(self) -> tuple[str, str, str | None]:
        """The image column, the label column, and the derivation of labels."""
        from datasets import ClassLabel
        from datasets import Image as ImageFeature

        first, *rest = (data.features for data in self._splits.values())
        features = {n: kind for n, kind in first.items() if all(n in other for other in rest)}
        image = self._column_of("image", self._entry.get("image", []), features, ImageFeature)
        for wanted in self._entry.get("label", []):
            column, derive = (
                next(iter(wanted.items())) if isinstance(wanted, dict) else (wanted, None)
            )
            if column in features:
                return image, column, derive
        derived = [w for w in self._entry.get("label", []) if isinstance(w, dict)]
        if derived:
            raise InputError(
                f"{self._where} has nothing to derive labels of {self.task.key} from: looked for "
                f"{' or '.join(next(iter(w)) for w in derived)}, found {', '.join(features)}"
            )
        return image, self._column_of("label", [], features, ClassLabel), None

    def _column_of(self, what: str, names: list[str], features: Any, kind: type) -> str:
        named = [name for name in names if name in features]
        typed = [name for name, feature in features.items() if isinstance(feature, kind)]
        if not named and len(typed) == 1:
            return str(typed[0])
        if not named and what in features:
            return what
        if not named:
            raise InputError(
                f"{self._where}: which column is the {what} of {self.task.key}? Looked for "
                f"{' or '.join([*names, what])} or one of type {kind.__name__}, found "
                f"{', '.join(features)}; rename_column can name it"
            )
        return named[0]

    def _labels(self) -> dict[str, Rows]:
        """Classes of all rows of the splits; no image is touched."""
        raw = {
            name: data.select_columns([self._column]).with_format("arrow")[:].column(0).to_pylist()
            for name, data in self._splits.items()
        }
        names = {label for labels in raw.values() for label in labels if isinstance(label, str)}
        rank = {label: number for number, label in enumerate(sorted(names))}
        return {
            name: np.array(
                [
                    self._label(label, rank, f"{self._where}: {name}[{i}]")
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
                f"{where}: no label of {self.task.key} in column {self._column}: {error}"
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
        taken = [rows for other, rows, _ in self._rows.values() if other == name]
        free = np.setdiff1d(np.arange(len(labels)), np.concatenate([[], *taken]))
        wanted = {"train": self.task.train, "val": self.task.val, "test": self.task.test}[split]
        shared = list(names.values()).count(name) > 1
        if not shared and (split == "test" or len(free) <= wanted):
            return free
        if len(free) < wanted:
            raise InputError(
                f"{self._where}: the {len(labels):,} images of split {name} are too few for those "
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


def _load(task: Task, entry: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """The data set's splits by name."""
    import datasets

    try:
        if folder is None:
            found = datasets.load_dataset(entry["id"], entry.get("config"))
        elif any((folder / name).exists() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(**_files(folder))
    except Exception as error:  # of datasets, its file systems and formats: no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = (
            "once it is in the cache of datasets (run `arc-sweep data prepare` with a connection), "
            "or with a folder as data.root, no connection is needed"
            if folder is None
            else "it must be what save_to_disk writes, or parquet files, webdataset shards or "
            "folders of images that load_dataset understands"
        )
        what = f"hub data set {entry['id']}" if folder is None else f"data set {folder}"
        raise InputError(f"task {task.key}: can't load {what}: {reason}; {remedy}") from error
    return {"train": found} if isinstance(found, datasets.Dataset) else dict(found)


def _files(folder: Path) -> dict[str, Any]:
    """What load_dataset needs to read a folder; of images, which folder is which split.

    (Left to itself it takes a class folder such as `train_railway` for a part of train.)
    """
    named = [*SPLIT_NAMES["val"], "test"]
    if _has(folder, TABLES):
        return {"path": str(folder)}
    parts = {name: f"{folder}/{name}/**" for name in named if (folder / name).is_dir()}
    return {"path": "imagefolder", "data_files": parts}


@cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("hub.yaml").read_text()
    )
    return entries

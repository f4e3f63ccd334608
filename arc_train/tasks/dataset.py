"""Images in rows of a Hugging Face data set: loading it, finding its columns, reading its rows."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task
from arc_train.tasks.images import from_array, read_image, to_rgb

Rows = NDArray[np.int64]

SAVED = ("dataset_dict.json", "dataset_info.json")  # by save_to_disk
TABLES = ("*.parquet", "*.tar", "*.arrow")


@dataclass(frozen=True)
class Row:
    """An image of a split: where it stands, for messages, and its class.

    mask: whether it may be of zeros and ones. upright: whether it is turned as its EXIF says.
    """

    where: str
    label: int
    stored: Any
    mask: bool
    upright: bool

    def read(self) -> tuple[Image.Image, bytes]:
        """The image as it is stored, loaded, and its bytes.

        Raises:
            InputError: it can't be read.
        """
        if isinstance(self.stored, dict):
            stored = self.stored["bytes"] or Path(self.stored["path"])
            image, content = read_image(stored, self.where, self.upright)
        else:
            image = from_array(self.stored, self.where)
            content = image.tobytes()
        if self.mask and np.asarray(image).max() <= 1:
            image = Image.fromarray(255 * np.asarray(image, dtype=np.uint8))
        return image, content


class DataSetSource:
    """A task's splits as rows of a data set.

    where: the data set, for messages. kind: its kind, for the record. tables: its splits that are
    used. column: of the images. chosen: split -> which of its splits, its rows, their classes.
    drawn_by: what the choice of rows depends on, besides them.
    """

    where: str
    kind: str
    tables: dict[str, Any]
    column: str
    chosen: dict[str, tuple[str, Rows, Rows]]
    split: str
    drawn_by: object

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def variant(self) -> str:
        """Where it is from, and of the hub which state."""
        sums = next(iter(self.tables.values())).info.download_checksums or {}
        revision = re.search(r"@([0-9a-f]{7,40})/", next(iter(sums), ""))
        return f"{self.kind}@{revision[1][:12]}" if revision else self.kind

    def key(self) -> str:
        """Changes with the data set's files, its labels or the rows that are used."""
        digest = hashlib.sha256(f"{self.task.key}|{self.kind}|{self.drawn_by}".encode())
        for split, (name, rows, labels) in sorted(self.chosen.items()):
            digest.update(f"{split}|{name}|{self.tables[name]._fingerprint}".encode())
            digest.update(rows.tobytes() + labels.tobytes())
        return digest.hexdigest()

    def size(self, split: str) -> int:
        return len(self.chosen[split][1])

    def labels(self, split: str) -> Rows:
        return self.chosen[split][2]

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        for row in self.rows(split):
            image, content = row.read()
            yield to_rgb(image, row.where), content

    def rows(self, split: str) -> Iterator[Row]:
        """The images of a split, none decoded yet."""
        from datasets import Image as ImageFeature

        name, rows, labels = self.chosen[split]
        data = self.tables[name].select_columns([self.column])
        if isinstance(data.features[self.column], ImageFeature):
            data = data.cast_column(self.column, ImageFeature(decode=False))
        mask = self.task.key.startswith("vtab/dsprites")
        upright = self.task.location is not None
        for number, label in zip(rows.tolist(), labels.tolist(), strict=True):
            where = f"{self.where}: {name}[{number}]"
            yield Row(where, label, data[number][self.column], mask, upright)


def features_of(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that all splits have, by name."""
    first, *rest = (data.features for data in tables.values())
    return {n: kind for n, kind in first.items() if all(n in other for other in rest)}


def find_column(
    what: str, names: Sequence[str], features: Mapping[str, Any], where: str, remedy: str
) -> str:
    """The column that is the image, or the label: of the first of the names that is there, else
    the only one of its type.

    Raises:
        InputError: there is none, or more than one could be meant.
    """
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    kind = {"image": ImageFeature, "label": ClassLabel}[what]
    named = [name for name in names if name in features]
    typed = [name for name, feature in features.items() if isinstance(feature, kind)]
    if not named and len(typed) == 1:
        return typed[0]
    if not named and what in features:
        return what
    if not named:
        raise InputError(
            f"{where}: which column is the {what}? Looked for {' or '.join([*names, what])} or one "
            f"of type {kind.__name__}, found {', '.join(features)}; {remedy}"
        )
    return named[0]


def column_of(data: Any, column: str) -> list[Any]:
    """All values of a column; no image is touched."""
    values: list[Any] = data.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    return values


def has_files(folder: Path, patterns: Sequence[str]) -> bool:
    """Whether a file below a folder fits a pattern."""
    return any(next(folder.rglob(pattern), None) for pattern in patterns)


def load(task: Task, name: str, subset: str | None, folder: Path | None) -> dict[str, Any]:
    """The splits of a data set by name: of the hub by its name there, else in a folder."""
    import datasets

    try:
        if folder is None:
            found = datasets.load_dataset(name, subset)
        elif any((folder / file).exists() for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(**_files(folder))
    except Exception as error:  # of datasets, its file systems and formats: no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = (
            "once it is in the cache of datasets (run `arc-sweep data prepare` with a connection), "
            "or with its files in a folder, no connection is needed"
            if folder is None
            else "it must be what save_to_disk writes, or parquet files, webdataset shards or "
            "folders of images that load_dataset understands"
        )
        what = f"hub data set {name}" if folder is None else f"data set {folder}"
        raise InputError(f"task {task.key}: can't load {what}: {reason}; {remedy}") from error
    return {"train": found} if isinstance(found, datasets.Dataset) else dict(found)


def _files(folder: Path) -> dict[str, Any]:
    """What load_dataset needs to read a folder; of images, which folder is which split.

    (Left to itself it takes a class folder such as `train_railway` for a part of train.)
    """
    if has_files(folder, TABLES):
        return {"path": str(folder)}
    named = ("validation", "valid", "val", "train", "test")
    parts = {name: f"{folder}/{name}/**" for name in named if (folder / name).is_dir()}
    return {"path": "imagefolder", "data_files": parts}

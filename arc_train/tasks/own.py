"""A user's own images: read from folders, lists or a data set, and split where they aren't."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from arc_train.errors import InputError
from arc_train.tasks.catalog import Location, Task
from arc_train.tasks.dataset import (
    SAVED,
    TABLES,
    DataSetSource,
    column_of,
    features_of,
    find_column,
    has_files,
    load,
)
from arc_train.tasks.entries import (
    COLUMNS,
    Entry,
    class_folders,
    has_classes,
    lists_of,
    passed_over,
    read_list,
    some,
    split_of,
    tables_of,
)
from arc_train.tasks.lists import Line, ListSource
from arc_train.tasks.splits import NAMES, SPLITS, Indices, classes_of, complete

CLASS_FOLDERS = "class folders"


def own_source(task: Task, seed: int) -> "OwnLists | OwnDataSet":
    """The source of a user's task.

    seed: of the draw of missing splits.

    Raises:
        InputError: nothing is there, or what is there can't be a task; says where and why.
    """
    location = task.location
    assert location is not None
    if location.dataset is not None:
        return _data_set(task, None, seed)
    for path, is_there in ((location.folder, Path.is_dir), (location.list, Path.is_file)):
        if path is not None and not is_there(path):
            what = "folder" if path is location.folder else "list"
            raise InputError(f"task {task.key}: no {what} {path} on {os.uname().nodename}")
    folder = location.folder
    if location.list is None and folder is not None and has_files(folder, (*TABLES, *SAVED)):
        return _data_set(task, folder, seed)
    return OwnLists(task, seed)


class OwnLists(ListSource):
    """Images in a folder for each class, or in lists."""

    def __init__(self, task: Task, seed: int) -> None:
        assert task.location is not None
        self._layout, root, self._entries = _entries(task.location)
        self._seed = seed
        super().__init__(task, root)

    @property
    def remark(self) -> str | None:
        """What was not taken for an image, where every file could be one."""
        return passed_over(self.folder) if self._layout == CLASS_FOLDERS else None

    @property
    def split(self) -> str:
        return "drawn" if self._drawn else "given"

    @property
    def variant(self) -> str:
        """The layout, and what was drawn."""
        return self._layout + _says(self._drawn, self._seed)

    def _read(self) -> dict[str, list[Line]]:
        entries = self._entries
        if not entries:
            raise InputError(
                f"task {self.task.key}: no images in {self.folder}; expected a sub-folder for each "
                "class, a CSV file, lists such as train.txt, or parquet files"
            )
        names, labels = classes_of([entry.label for entry in entries], lambda i: entries[i].where)
        self.task = replace(self.task, classes=len(names), class_names=names)
        lines = [
            self._line(entry.where, self.folder, entry.name, label)
            for entry, label in zip(entries, labels.tolist(), strict=True)
        ]
        rows, self._drawn = _split(
            self.task,
            [entry.split for entry in entries],
            labels,
            lambda i: lines[i].path.relative_to(self._root).as_posix(),
            self._seed,
        )
        self.task = _sized(self.task, rows)
        return {split: [lines[i] for i in rows[split]] for split in SPLITS}


def _entries(location: Location) -> tuple[str, Path, list[Entry]]:
    """The layout of images that lie in folders or lists, their root, and all of them."""
    columns = {"image": location.image, "label": location.label, "split": location.split}
    if location.list is not None:
        root = location.folder or location.list.parent
        return f"list {location.list.name}", root, read_list(location.list, columns)
    folder = location.folder
    assert folder is not None
    lists = lists_of(folder)
    if "train" in lists:
        parts = [read_list(path, columns, split) for split, path in lists.items()]
        names = " ".join(path.name for path in lists.values())
        return f"lists {names}", folder, [entry for part in parts for entry in part]
    tables = tables_of(folder)
    if len(tables) > 1 and not has_classes(folder):
        names = some([path.name for path in tables])
        raise InputError(f"{folder} has {names}: say with list: which one lists the images")
    if tables and not has_classes(folder):
        return f"list {tables[0].name}", folder, read_list(tables[0], columns)
    return CLASS_FOLDERS, folder, class_folders(folder)


@lru_cache(maxsize=8)
def _data_set(task: Task, folder: Path | None, seed: int) -> "OwnDataSet":
    """As OwnDataSet; a process reads a data set's labels, and asks the hub, only once."""
    return OwnDataSet(task, folder, seed)


class OwnDataSet(DataSetSource):
    """Rows of a Hugging Face data set, on the hub (folder: None) or in a folder."""

    def __init__(self, task: Task, folder: Path | None, seed: int) -> None:
        super().__init__(task)
        location = task.location
        assert location is not None
        name = str(location.dataset)
        self.where = name if folder is None else str(folder)
        self.kind = f"hub {name}" if folder is None else "data set folder"
        self._seed = self.drawn_by = seed
        self.tables = self._used(load(task, name, location.subset, folder))
        features = features_of(self.tables)
        self.column = self._find("image", location.image, features)
        label = self._find("label", location.label, features)
        places, texts, splits = self._flat(label, self._split_column(location, features))
        names, labels = classes_of(texts, lambda i: self._place(*places[i]))
        self.task = replace(task, classes=len(names), class_names=names)
        rows, self._drawn = _split(
            self.task, splits, labels, lambda i: "|".join(map(str, places[i])), seed
        )
        self.split = "drawn" if self._drawn else "given"
        self.chosen = {
            split: (
                places[own[0]][0],
                np.array([places[i][1] for i in own], dtype=np.int64),
                labels[own],
            )
            for split, own in rows.items()
        }
        self.task = _sized(self.task, rows)

    @property
    def variant(self) -> str:
        """Where it is from, and what was drawn."""
        return super().variant + _says(self._drawn, self._seed)

    def _used(self, loaded: dict[str, Any]) -> dict[str, Any]:
        """The splits by our names for them; the only one, whatever it is called, is train."""
        if len(loaded) == 1:
            return {"train": next(iter(loaded.values()))}
        return {
            split: loaded[name]
            for split in SPLITS
            if (name := next((name for name in NAMES[split] if name in loaded), None))
        }

    def _find(self, what: str, wanted: str | None, features: dict[str, Any]) -> str:
        if wanted is not None and wanted not in features:
            raise InputError(
                f"{self.where}: no column {wanted!r} ({what}:), found {some(list(features))}"
            )
        if wanted is not None:
            return wanted
        return find_column(what, COLUMNS[what], features, self.where, f"name it with {what}:")

    def _split_column(self, location: Location, features: dict[str, Any]) -> str | None:
        """The column that says which split a row is of, where the data set has only one."""
        if len(self.tables) > 1 and location.split is not None:
            raise InputError(
                f"{self.where} has the splits {' and '.join(self.tables)} itself: leave out split:"
            )
        if len(self.tables) > 1:
            return None
        if location.split is not None:
            return self._find("split", location.split, features)
        return next((name for name in COLUMNS["split"] if name in features), None)

    def _flat(
        self, label: str, split: str | None
    ) -> tuple[list[tuple[str, int]], list[str], list[str | None]]:
        """Of all rows of all splits: where each stands, its label as text, its split if given."""
        places: list[tuple[str, int]] = []
        texts: list[str] = []
        splits: list[str | None] = []
        for name, data in self.tables.items():
            kind = data.features[label]
            for row, value in enumerate(column_of(data, label)):
                places.append((name, row))
                texts.append(self._text(value, getattr(kind, "names", None), name, row))
            if split is not None:
                given = column_of(data, split)
                splits += [split_of(str(v), self._place(name, i)) for i, v in enumerate(given)]
            else:
                splits += [name if len(self.tables) > 1 else None] * len(data)
        return places, texts, splits

    def _text(self, value: Any, names: Sequence[str] | None, name: str, row: int) -> str:
        """A label as text; of a class label its name."""
        if names is not None and isinstance(value, int) and 0 <= value < len(names):
            return names[value]
        if names is not None or not isinstance(value, str | int | float):
            raise InputError(f"{self._place(name, row)}: no label, found {value!r}")
        return str(value)

    def _place(self, name: str, row: int) -> str:
        return f"{self.where}: {name}[{row}]"


def _split(
    task: Task,
    splits: Sequence[str | None],
    labels: Indices,
    address: Callable[[int], str],
    seed: int,
) -> tuple[dict[str, Indices], tuple[str, ...]]:
    """The images of each split, and which splits were drawn."""
    given: dict[str, Indices] = {}
    for split in SPLITS:
        own = np.array([i for i, name in enumerate(splits) if name == split], dtype=np.int64)
        if len(own):
            given[split] = own
    given = given or {"train": np.arange(len(splits))}
    drawn = tuple(split for split in SPLITS if split not in given)
    where = f"task {task.key}"
    return complete(given, labels, task.class_names, address, seed, where), drawn


def _sized(task: Task, rows: Mapping[str, Indices]) -> Task:
    return replace(task, train=len(rows["train"]), val=len(rows["val"]), test=len(rows["test"]))


def _says(drawn: Sequence[str], seed: int) -> str:
    """What is on record of a draw."""
    return f" ({' and '.join(drawn)} drawn with seed {seed})" if drawn else ""

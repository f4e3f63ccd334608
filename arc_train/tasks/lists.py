"""A task's folder with a list for each split: NOAH's layout of VTAB-1k, VPT's of FGVC."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task
from arc_train.tasks.images import read_image, to_rgb
from arc_train.tasks.splits import SPLITS

VTAB_LISTS = {"train": "train800", "val": "val200", "test": "test"}


@dataclass(frozen=True)
class Line:
    """An image of a list: `where` says which entry of which file, for messages.

    upright: whether it is turned as its EXIF says.
    """

    where: str
    path: Path
    label: int
    upright: bool = False

    def read(self) -> tuple[Image.Image, bytes]:
        """The image as it is stored, loaded, and its file's bytes.

        Raises:
            InputError: it can't be read.
        """
        return read_image(self.path, self.where, self.upright)


class ListSource:
    """A task's folder with a list for each split."""

    layout: str

    def __init__(self, task: Task, folder: Path) -> None:
        self.task = task
        self.folder = folder
        self._lines = self._read()

    @property
    def variant(self) -> str:
        """The layout's name, with the sizes where they aren't those of the published split."""
        sizes = [len(self._lines[split]) for split in SPLITS]
        if self.split == "official":
            return self.layout
        return f"{self.layout} (sizes {'/'.join(map(str, sizes))}, not the published split)"

    @property
    def split(self) -> str:
        """Lists of the published sizes are taken for the published ones."""
        sizes = (len(self._lines[split]) for split in SPLITS)
        return "official" if self.task.published(*sizes) else "lists"

    def _read(self) -> dict[str, list[Line]]:
        raise NotImplementedError

    def _line(self, where: str, root: Path, name: str, label: int) -> Line:
        """A checked entry: its text stays in the task's folder, its class is one of the task's.

        Links that lead elsewhere are the user's own and are followed.
        """
        if not 0 <= label < self.task.classes:
            raise InputError(
                f"{where}: label {label} is out of range; {self.task.key} has "
                f"{self.task.classes} classes, 0 to {self.task.classes - 1}"
            )
        folder = self._root
        image = Path(os.path.normpath(folder / os.path.relpath(root, self.folder) / name))
        if not image.is_relative_to(folder):
            raise InputError(f"{where}: {name!r} leaves the task's folder {self.folder}")
        if not image.is_file():
            raise InputError(f"{where}: no image {root / name}")
        return Line(where, image, label, upright=self.task.location is not None)

    @cached_property
    def _root(self) -> Path:
        return self.folder.resolve()

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8-sig")  # editors may begin with a mark
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"task {self.task.key}: can't read list {path}: {error}") from error

    def key(self) -> str:
        digest = hashlib.sha256(self.task.key.encode())
        for split in SPLITS:
            for line in self._lines[split]:
                stat = line.path.stat()
                digest.update(
                    f"{split}|{line.path}|{line.label}|{stat.st_size}|{stat.st_mtime_ns}\n".encode()
                )
        return digest.hexdigest()

    def size(self, split: str) -> int:
        return len(self._lines[split])

    def labels(self, split: str) -> NDArray[np.int64]:
        return np.array([line.label for line in self._lines[split]], dtype=np.int64)

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        for line in self._lines[split]:
            image, content = line.read()
            yield to_rgb(image, line.where), content

    def rows(self, split: str) -> list[Line]:
        """The entries of a split's list."""
        return self._lines[split]


class VTABSource(ListSource):
    """NOAH's layout: `<folder>/{train800,val200,test}.txt`, lines `path label`, and the images.

    `train800val200.txt`, where present, must list as many images of each class as the two lists
    it joins.
    """

    layout = "vtab-1k folder"

    def _read(self) -> dict[str, list[Line]]:
        lines = {split: self._list(name) for split, name in VTAB_LISTS.items()}
        if (self.folder / "train800val200.txt").exists():
            joined = Counter(line.label for line in self._list("train800val200"))
            parts = Counter(x.label for split in ("train", "val") for x in lines[split])
            if joined != parts:
                raise InputError(
                    f"{self.folder / 'train800val200.txt'} doesn't join train800.txt and "
                    f"val200.txt: it has {joined.total()} images, they have {parts.total()}, or "
                    "their classes differ"
                )
        return lines

    def _list(self, name: str) -> list[Line]:
        path = self.folder / f"{name}.txt"
        lines: list[Line] = []
        for number, raw in enumerate(self._text(path).splitlines(), start=1):
            if not raw.strip():
                continue
            where = f"{path}:{number}"
            image, _, label = raw.strip().rpartition(" ")
            if not image or not label.isdecimal():
                raise InputError(f"{where}: expected 'path label', found {raw.strip()!r}")
            lines.append(self._line(where, self.folder, image.strip(), int(label)))
        if not lines:
            raise InputError(f"{path} lists no images")
        return lines


class FGVCSource(ListSource):
    """VPT's layout: `<folder>/{train,val,test}.json`, each one object {"path": class id}.

    Ids needn't start at 0 nor be contiguous. They become classes by their rank among the ids of
    all three lists: ranked within each list, as the released code does it, a class missing from
    one would shift all after it. Images lie in `images/`, `Images/` or the folder itself.
    """

    layout = "fgvc lists"

    def _read(self) -> dict[str, list[Line]]:
        raw = {split: self._ids(split) for split in SPLITS}
        ids = sorted({label for entries in raw.values() for label in entries.values()})
        if len(ids) > self.task.classes:
            raise InputError(
                f"{self.folder}: its lists name {len(ids)} classes, {self.task.key} has "
                f"{self.task.classes}"
            )
        rank = {label: i for i, label in enumerate(ids)}
        first = next(iter(raw["train"]))
        places = [self.folder / "images", self.folder / "Images", self.folder]
        root = next((place for place in places if (place / first).is_file()), self.folder)
        return {
            split: [
                self._line(f"{self.folder / split}.json: {name!r}", root, name, rank[label])
                for name, label in entries.items()
            ]
            for split, entries in raw.items()
        }

    def _ids(self, split: str) -> dict[str, int]:
        path = self.folder / f"{split}.json"
        try:
            content = json.loads(self._text(path))
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict) or not content:
            raise InputError(f"{path} lists no images: expected an object of 'path': class id")
        ids = {}
        for name, label in content.items():
            if isinstance(label, bool) or not str(label).strip().lstrip("-").isdecimal():
                raise InputError(f"{path}: {name!r}: expected a whole number, found {label!r}")
            ids[name] = int(label)  # numbers as text would be ranked 1, 10, 2
        return ids

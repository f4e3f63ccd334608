"""Reads what a user has: a folder for each class, a CSV file, or lists of paths and labels."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.splits import NAMES, SPLITS, split_called

TABLES = (".csv", ".tsv")
# Stems of lists that hold one split: VTAB-1k's, and what people call them.
LISTS = {
    split: (*NAMES[split], *also)
    for split, also in {"train": ("train800",), "val": ("val200",), "test": ()}.items()
}
# What columns are called, the likeliest first.
COLUMNS = {
    "image": ("image", "path", "file", "filename", "file_name", "filepath", "image_path", "img"),
    "label": ("label", "class", "class_name", "category", "target", "label_name", "labels"),
    "split": ("split", "set", "subset", "partition", "fold"),
}


@dataclass(frozen=True)
class Entry:
    """An image: where it is listed (for messages), its path, its label, its split if that is
    given."""

    where: str
    name: str
    label: str
    split: str | None = None


def lists_of(folder: Path) -> dict[str, Path]:
    """The lists of single splits in a folder, by split."""
    found = {}
    for split, stems in LISTS.items():
        names = (f"{stem}{suffix}" for stem in stems for suffix in (".txt", *TABLES))
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is not None:
            found[split] = path
    return found


def tables_of(folder: Path) -> list[Path]:
    """The CSV files in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLES)


def has_classes(folder: Path) -> bool:
    """Whether at least two sub-folders hold images."""
    return sum(any(_images(path)) for path in _folders(folder)) > 1


def class_folders(folder: Path) -> list[Entry]:
    """The images of a folder with a sub-folder for each class, in those of splits if there are.

    Raises:
        InputError: an image outside any class, or sub-folders of both kinds.
    """
    top = [path for path in _folders(folder) if any(_images(path))]
    splits = {path: split for path in top if (split := split_called(path.name))}
    if not splits:
        _check_loose(folder)
        return [entry for path in top for entry in _of_class(folder, path, None)]
    if len(splits) < len(top):
        other = next(path.name for path in top if path not in splits)
        raise InputError(
            f"{folder} has {next(iter(splits)).name}/ beside {other}/: its sub-folders must be "
            "either splits or classes; move all classes into one folder, or give a list"
        )
    twice = [split for split, count in Counter(splits.values()).items() if count > 1]
    if twice:
        both = " and ".join(f"{path.name}/" for path in top if splits[path] == twice[0])
        raise InputError(f"{folder} has {both}, which are both {twice[0]}; keep one of them")
    entries = []
    for path, split in splits.items():
        _check_loose(path)
        entries += [entry for inner in _folders(path) for entry in _of_class(folder, inner, split)]
    return entries


def passed_over(folder: Path) -> str | None:
    """In words, the files below a folder that are no images by their names; None without any."""
    count = Counter(
        Path(name).suffix.lower() or "without an ending"
        for place, inner, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".") and not _is_image(Path(name))
    )
    if not count:
        return None
    kinds = ", ".join(f"{number:,} {ending}" for ending, number in count.most_common(5))
    return f"{count.total():,} files are no images by their names and are passed over: {kinds}"


def read_list(
    path: Path, columns: Mapping[str, str | None], split: str | None = None
) -> list[Entry]:
    """The entries of a CSV file, or of a text file with lines `path label` or `path label split`.

    columns: names of the columns image, label and split, None where they are to be found.
    split: of all its images, if it holds only one.

    Raises:
        InputError: it can't be read, lists nothing, lacks a column, or a line is wrong.
    """
    if path.suffix.lower() not in (".txt", *TABLES):
        raise InputError(f"{path} is no list: expected a file .csv, .tsv or .txt")
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors may begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"can't read list {path}: {reason}") from error
    of_table = path.suffix.lower() in TABLES
    entries = list(_table(path, text, columns, split) if of_table else _text(path, text, split))
    if not entries:
        raise InputError(f"{path} lists no images")
    return entries


def _table(
    path: Path, text: str, wanted: Mapping[str, str | None], split: str | None
) -> Iterator[Entry]:
    delimiter = max("\t;,", key=text.split("\n", 1)[0].count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip() for name in next(rows, [])]
    image, label = (_needed(path, header, what, wanted[what]) for what in ("image", "label"))
    splits = None if split else _column(path, header, "split", wanted["split"])
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InputError(f"{where}: {len(row)} cells, but the header has {len(header)} columns")
        own = split if splits is None else split_of(row[splits], where)
        yield Entry(where, row[image].strip(), row[label].strip(), own)


def _column(path: Path, header: Sequence[str], what: str, wanted: str | None) -> int | None:
    """The place of a column: of the wanted name, else of one of the usual ones, if it is there."""
    if wanted is None:
        lower = [name.lower() for name in header]
        return next((lower.index(name) for name in COLUMNS[what] if name in lower), None)
    if wanted not in header:
        raise InputError(
            f"{path}: no column {wanted!r} ({what}:); its first line has {some(header)}"
        )
    return header.index(wanted)


def _needed(path: Path, header: Sequence[str], what: str, wanted: str | None) -> int:
    found = _column(path, header, what, wanted)
    if found is None:
        raise InputError(
            f"{path}: no column is called {', '.join(COLUMNS[what][:3])} or the like; its first "
            f"line has {some(header)}: name the column with {what}:, or add a first line such as "
            "image,label"
        )
    return found


def _text(path: Path, text: str, split: str | None) -> Iterator[Entry]:
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    ends = [split_called(line.rsplit(None, 1)[-1]) for _, line in lines]
    three = split is None and all(ends) and all(len(line.split()) > 2 for _, line in lines)
    for (number, line), end in zip(lines, ends, strict=True):
        where = f"{path}:{number}"
        image, *label = (line.rsplit(None, 1)[0] if three else line).rsplit(None, 1)
        if not label:
            raise InputError(f"{where}: expected 'path label', found {short(line)!r}")
        yield Entry(where, image, label[0], end if three else split)


def split_of(text: str, where: str) -> str:
    """The split that a cell names.

    Raises:
        InputError: it names none; begins with `where`.
    """
    split = split_called(text)
    if split is None:
        raise InputError(f"{where}: split {short(text)!r} is none of {', '.join(SPLITS)}")
    return split


def _of_class(root: Path, folder: Path, split: str | None) -> Iterator[Entry]:
    for path in _images(folder):
        yield Entry(str(path), str(path.relative_to(root)), folder.name, split)


def _check_loose(folder: Path) -> None:
    """Refuse an image that no class folder holds: its label is anyone's guess."""
    loose = next((path for path in _files(folder) if _is_image(path)), None)
    if loose is not None:
        raise InputError(
            f"{loose} lies in no class folder: move it into one, out of {folder}, or give a list"
        )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    """All images below a folder, in order; links are followed."""
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if _is_image(path):
                yield path


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in _suffixes()


@cache
def _suffixes() -> frozenset[str]:
    """Ends of names of what Pillow can read."""
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in ("PDF", "MPEG", "HDF5")
    )


def some(names: Sequence[str]) -> str:
    """The first of some names, for messages."""
    return ", ".join(map(short, names[:6])) + (", ..." if len(names) > 6 else "")


def short(text: str) -> str:
    """A text that isn't ours, cut to what a message holds."""
    return text if len(text) <= 60 else text[:57] + "..."

"""The node cache: a task's images decoded once, and mapped into memory by whoever trains on them.

An entry's folder is named by what it was made from (files, their sizes and times, transform), so a
changed file means another entry. Entries appear whole, by renaming. Nothing in one is trusted:
whoever opens a split verifies each of its images, and an entry that isn't as it was written is made
again. A lock makes other processes wait instead of decoding the same images.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arc_train.digest import Damaged
from arc_train.errors import InputError
from arc_train.tasks import stored
from arc_train.tasks.build import FILES, build, sync
from arc_train.tasks.catalog import Task
from arc_train.tasks.hub import UNIFORM, Draw
from arc_train.tasks.progress import Decoded, Lines
from arc_train.tasks.sources import Source, open_source
from arc_train.tasks.splits import SPLITS
from arc_train.tasks.stored import Loaded
from arc_train.tasks.transform import Transform, transform

FORMAT = 5
# An entry that is being made has this and its name, beside its place.
BUILDING = ".building-"


def log(text: str) -> None:
    """Say something in a process that nobody watches."""
    print(f"arc-sweep: {text}", file=sys.stderr)


@dataclass(frozen=True)
class Entry:
    """A prepared task.

    fingerprint: 16 hex digits of the images' bytes and labels. variant: the kind of source.
    split: whether its images are those of the published split (Source.split).
    transform: what was done to the images, in words. side: of the images that models will see.
    task: with its classes, whoever's it is.
    """

    folder: Path
    fingerprint: str
    variant: str
    split: str
    transform: str
    side: int
    task: Task
    _again: Callable[[], "Entry"] = field(repr=False, compare=False)
    _say: Callable[[str], None] = field(repr=False, compare=False)

    def load(self, *splits: str) -> Loaded:
        """Images and labels of `train`, `val` or both in this order.

        Raises:
            InputError: the test split is asked for.
        """
        if "test" in splits:
            raise InputError(
                f"the test split is sealed ({self.folder}): a search uses train and val, and only "
                "finals open it, on record"
            )
        return self._read("search", *splits)

    def open_test(self, record: Callable[[], None]) -> Loaded:
        """Images and labels of the test split; `record` is called first."""
        record()
        return self._read("test", "test")

    def _read(self, name: str, *splits: str) -> Loaded:
        """Images as they were written; if they aren't, of the entry made again."""
        read = partial(stored.load, self.folder, name, splits, self.side)
        try:
            return read()
        except (Damaged, OSError):
            pass  # by now another process may have made it again
        with _lock(self.folder):
            try:
                return read()
            except (Damaged, OSError) as damage:
                _remove(self.folder, damage, self._say)
        again = self._again()
        if again.fingerprint != self.fingerprint:
            raise InputError(
                f"{self.folder} was damaged, and the images that it was made from have changed"
            )
        try:
            return stored.load(again.folder, name, splits, self.side)
        except (Damaged, OSError) as damage:
            raise InputError(
                f"{self.folder} is damaged again as soon as it is written ({damage}): check the "
                "disk and the memory of this machine"
            ) from damage


def default_folder() -> Path:
    """$ARC_SWEEP_CACHE, or arc-sweep in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ARC_SWEEP_CACHE") or f"{home}/arc-sweep").expanduser()


def prepare(
    task: Task,
    root: Path | None,
    size: int,
    cache: Path,
    decoded: Decoded | None = None,
    draw: Draw = UNIFORM,
    say: Callable[[str], None] = log,
    whole: bool = False,
) -> Entry:
    """The task's cache entry, made now if it isn't there or isn't as it was written.

    size: side of the square images that the model takes.
    decoded: called after each image that is decoded; by default `say` is told now and then.
    draw: how images are drawn from a data set that has no lists.
    say: told in one line when an entry is made again; by default standard error.
    whole: read every image of an entry that is there; else those are verified when they are loaded.

    Raises:
        InputError: a list or an image is wrong, or there is no room; nothing is left behind.
    """
    source = open_source(task, root, draw)
    how = transform(task, size)
    folder = _folder(source, task, how, cache)
    _make_place(folder.parent)
    _drop_leftovers(folder.parent)
    with _lock(folder):
        if folder.exists() and (damage := damage_of(folder, whole)):
            _remove(folder, damage, say)
        if not folder.exists():
            check_room(cache, _disk(source, task, size))
            _make(folder, partial(build, source, how, decoded=decoded or Lines(task.key, say)))
        meta = _meta(folder)
    again = partial(prepare, task, root, size, cache, decoded, draw, say)
    about = (meta["fingerprint"], meta["variant"], meta["split"])
    return Entry(folder, *about, str(how), size, source.task, again, say)


def room(task: Task, root: Path | None, size: int, cache: Path, draw: Draw = UNIFORM) -> int:
    """About how many bytes `prepare` will add to the cache; 0 where the entry is there."""
    source = open_source(task, root, draw)
    folder = _folder(source, task, transform(task, size), cache)
    there = folder.exists() and damage_of(folder) is None
    return 0 if there else _disk(source, task, size)


def check_room(cache: Path, need: int) -> int:
    """Before anything is decoded: how many bytes are free.

    Raises:
        InputError: there are fewer than needed, or the cache can't be made.
    """
    _make_place(cache)
    free = free_bytes(cache)
    if need > free:
        raise InputError(
            f"the cache {cache} needs about {need / 1e9:.1f} GB for decoded images and has "
            f"{free / 1e9:.1f} GB free: free some, or choose another place (data.cache, --cache)"
        )
    return free


def free_bytes(cache: Path) -> int:
    """How many bytes are free where the cache is, or will be."""
    there = next(
        folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.exists()
    )
    return shutil.disk_usage(there).free


def cached(task: Task, cache: Path) -> list[dict[str, Any]]:
    """What is on record of each of a task's entries: fingerprint, variant, size."""
    return [_meta(folder) for folder in entries(task, cache) if not damage_of(folder)]


def cached_as(task: Task, fingerprint: str, cache: Path) -> list[Path]:
    """The folders of a task's entries that hold these very images."""
    sound = (folder for folder in entries(task, cache) if not damage_of(folder))
    return [folder for folder in sound if _meta(folder)["fingerprint"] == fingerprint]


def entries(task: Task, cache: Path) -> list[Path]:
    """The folders of a task's entries."""
    return sorted(path.parent for path in _place(task, cache).glob("[!.]*/meta"))


def damage_of(folder: Path, whole: bool = False) -> Damaged | OSError | None:
    """What isn't as it was written in an entry: in its records, or (whole) in any image."""
    try:
        side = _meta(folder)["size"]
        for name, splits in FILES.items():
            stored.read_index(folder, name)
            if whole:
                stored.load(folder, name, splits, side)
    except (Damaged, OSError) as damage:
        return damage
    return None


def _remove(folder: Path, damage: Exception, say: Callable[[str], None]) -> None:
    """Make way for an entry to be made again, and say so, unless another process just did."""
    if folder.exists():
        say(f"the cache entry {folder} is damaged ({damage}): its images are decoded again")
        shutil.rmtree(folder, ignore_errors=True)


def _meta(folder: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads(stored.read(folder / "meta"))
    return meta


def _place(task: Task, cache: Path) -> Path:
    return cache / task.key.replace("/", "-")


def _folder(source: Source, task: Task, how: Transform, cache: Path) -> Path:
    """Where an entry lies: a changed file, transform or format leads elsewhere."""
    key = hashlib.sha256(f"{FORMAT}|{how}|{source.key()}".encode()).hexdigest()[:24]
    return _place(task, cache) / key


def _make_place(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"can't make the cache {folder}: {error.strerror}; choose another place (data.cache, "
            "--cache)"
        ) from error


def _disk(source: Source, task: Task, size: int) -> int:
    return disk(task, sum(map(source.size, SPLITS)), size)


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_suffix(".lock"))


def _drop_leftovers(place: Path) -> None:
    """Remove what a build left that was killed: nobody holds its lock."""
    for path in place.glob(f"{BUILDING}*"):
        try:
            with _lock(place / path.name.removeprefix(BUILDING)).acquire(timeout=0):
                shutil.rmtree(path, ignore_errors=True)
        except Timeout:
            pass  # it is being made


def disk(task: Task, images: int, size: int) -> int:
    """About how many bytes the pixels of so many images take: photographs are 4:3 on average."""
    how = transform(task, size)
    if how.augment == "none":
        return images * 3 * size**2
    return images * how.length**2 * (3 if how.resize == "squash" else 4)


def _make(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill an entry's folder, which appears whole or not at all."""
    scratch = folder.with_name(BUILDING + folder.name)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
        fill(scratch)
        os.rename(scratch, folder)
        sync(folder.parent)
    except OSError as error:
        raise InputError(f"can't fill the cache {folder.parent}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

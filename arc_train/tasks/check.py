"""Looks at a task's files as a sceptic would: what is there, and what can't be right.

A fault makes results wrong or incomparable. What is merely worth knowing (sizes other than the
published ones, greyscale images, classes that the training images lack) is a fact.
"""

from collections import Counter, defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arc_train.errors import InputError
from arc_train.tasks.build import Fingerprint, hash_of
from arc_train.tasks.cache import damage_of, entries
from arc_train.tasks.catalog import Task
from arc_train.tasks.dataset import DataSetSource
from arc_train.tasks.hub import UNIFORM, Draw, HubSource
from arc_train.tasks.images import ImageError, is_turned, to_rgb
from arc_train.tasks.lists import Line, ListSource
from arc_train.tasks.own import OwnLists
from arc_train.tasks.sources import open_source
from arc_train.tasks.splits import SPLITS

TINY = 16  # pixels: a shorter side says little at 224
EXAMPLES = 3  # of a fault that many files share


@dataclass
class Report:
    """What was found in a task: faults first, then facts to read.

    per_class: split -> how many images each class has. class_names: where they are known.
    """

    task: str
    faults: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, list[int]] = field(default_factory=dict)
    classes: int = 0
    class_names: tuple[str, ...] = ()
    encodings: dict[str, int] = field(default_factory=dict)
    variant: str | None = None
    fingerprint: str | None = None


def check(task: Task, root: Path | None, draw: Draw = UNIFORM) -> Report:
    """Read all of a task's images and lists; everything wrong ends up in the report."""
    report = Report(task.key)
    try:
        source = open_source(task, root, draw)
    except InputError as error:
        report.faults.append(str(error))
        return report
    task = source.task
    report.variant, report.class_names = source.variant, task.class_names
    report.sizes = {split: source.size(split) for split in SPLITS}
    labels = {split: source.labels(split) for split in SPLITS}
    report.per_class = {
        split: np.bincount(values, minlength=task.classes).tolist()
        for split, values in labels.items()
    }
    _check_classes(report, task, labels)
    if isinstance(source, ListSource | DataSetSource):
        _check_files(report, source, labels)
    else:
        fingerprint = Fingerprint()
        for split in SPLITS:
            for _, content in source.images(split):
                fingerprint.add(hash_of(content))
            fingerprint.end(split, labels[split])
        report.fingerprint = fingerprint.text()
        report.encodings = {"drawn": sum(report.sizes.values())}
    if isinstance(source, OwnLists) and source.remark:
        report.facts.append(source.remark)
    if source.split == "drawn" and isinstance(source, HubSource):
        report.facts.append(
            "the images are drawn, since a data set has no list of the published ones: accuracies "
            "compare with each other, not with published ones to the decimal"
        )
    published = {"train": task.train, "val": task.val, "test": task.test}
    for split, size in report.sizes.items():
        if not task.published(**(published | {split: size})):
            report.facts.append(f"{split} has {size:,} images, the published {published[split]:,}")
    return report


def check_cache(report: Report, task: Task, cache: Path) -> None:
    """Read all images of the task's entries in a node's cache."""
    for folder in entries(task, cache):
        if damage := damage_of(folder, whole=True):
            report.faults.append(
                f"the cache entry {folder} is damaged: {damage}; `arc-sweep data prepare` and the "
                "next run make it again"
            )


def _check_classes(report: Report, task: Task, labels: dict[str, Any]) -> None:
    present = {split: set(np.unique(values).tolist()) for split, values in labels.items()}
    report.classes = len(set().union(*present.values()))
    if report.classes != task.classes:
        report.faults.append(
            f"{report.classes} classes occur, {task.key} has {task.classes}: "
            f"missing {_some(set(range(task.classes)) - set().union(*present.values()))}"
        )
    missing = set(range(task.classes)) - present["test"]
    if missing:
        names = {task.class_names[i] for i in missing} if task.class_names else missing
        # Of a published test split that is a fault; whoever made one may have meant it.
        found = report.faults if task.location is None else report.facts
        found.append(f"no test image of class {_some(names)}")
    for split in ("train", "val"):
        lacking = task.classes - len(present[split])
        if lacking:
            report.facts.append(f"{split} has no image of {lacking} of {task.classes} classes")


def _check_files(
    report: Report, source: ListSource | DataSetSource, labels: dict[str, Any]
) -> None:
    """Every image: readable, listed once, in one split; one class for each class folder."""
    fingerprint = Fingerprint()
    encodings: Counter[str] = Counter()
    grey = tiny = turned = 0
    twice: list[str] = []
    broken: dict[str, list[str]] = defaultdict(list)
    own = source.task.location is not None
    places: dict[str, dict[bytes, str]] = {split: {} for split in SPLITS}
    folders: dict[str, dict[int, str]] = defaultdict(dict)
    same: list[str] = []
    flat: list[str] = []
    for split in SPLITS:
        listed: dict[Path, str] = {}
        for line in source.rows(split):
            if isinstance(line, Line) and isinstance(source, ListSource):
                if line.path in listed:
                    twice.append(f"{line.where}: listed before, at {listed[line.path]}")
                listed[line.path] = line.where
                folder = None if own else _class_folder(line.path, source.folder)
                if folder:
                    folders[folder].setdefault(line.label, line.where)
            try:
                image, content = line.read()
                shown = to_rgb(image, line.where)
            except ImageError as error:
                broken[error.kind].append(str(error))
                continue
            same_as = hash_of(content)
            fingerprint.add(same_as)
            encodings[str(image.format)] += 1
            grey += image.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F")
            tiny += min(image.size) < TINY
            turned += image.format is not None and is_turned(content)  # arrays have no EXIF
            pixels = np.asarray(shown)
            if (pixels == pixels[0, 0]).all():
                flat.append(line.where)
            for earlier in SPLITS[: SPLITS.index(split)]:
                if same_as in places[earlier]:
                    same.append(f"{line.where} is the image of {places[earlier][same_as]}")
            places[split].setdefault(same_as, line.where)
        fingerprint.end(split, labels[split])
    report.faults += _shared("are listed twice", twice)
    for kind, messages in broken.items():
        report.faults += _shared(kind, messages)
    if same:
        report.faults.append(
            f"{len(same)} images stand in two splits: {'; '.join(same[:EXAMPLES])}"
        )
    for folder, found in sorted(folders.items()):
        if len(found) > 1:
            entries = ", ".join(f"{label} at {where}" for label, where in sorted(found.items()))
            report.faults.append(f"images of the folder {folder!r} have several classes: {entries}")
    report.encodings = dict(encodings)
    report.fingerprint = fingerprint.text()
    if source.task.key == "vtab/cifar100" and encodings["JPEG"]:
        report.facts.append(
            "stored as JPEG: accuracies are about ten points off those on the original arrays "
            "(PNG, hub), so don't put both into one table"
        )
    if len(encodings) > 1:
        report.facts.append(
            f"stored in several ways ({', '.join(sorted(encodings))}): where the splits differ in "
            "it, test images don't look like training images"
        )
    if flat:
        report.facts.append(
            f"{len(flat):,} images have one flat colour: {', '.join(flat[:EXAMPLES])}"
        )
    if grey:
        report.facts.append(f"{grey:,} images are greyscale")
    if turned:
        how = "are turned as it says" if own else "stay as stored, as in the published results"
        report.facts.append(f"{turned:,} images say in EXIF how to turn them, and {how}")
    if tiny:
        report.facts.append(f"{tiny:,} images have a side below {TINY} pixels")


def _shared(kind: str, messages: list[str]) -> list[str]:
    """A finding for each image, or one for all of them where they are many."""
    if len(messages) <= EXAMPLES:
        return messages
    return [f"{len(messages):,} images {kind}, such as {'; '.join(messages[:EXAMPLES])}"]


def _class_folder(path: Path, root: Path) -> str | None:
    """The folder that holds an image, if it is more than its split's."""
    parts = path.relative_to(root.resolve()).parts[:-1]
    named = [part for part in parts if part.lower() not in _GENERIC]
    return named[-1] if named else None


_GENERIC = {"images", "image", "img", "jpg", "data", "train", "val", "validation", "test"} | {
    "train800",
    "val200",
    "train800val200",
    "trainval",
    "car_ims",
}


def _some(classes: Set[int] | Set[str]) -> str:
    first = ", ".join(map(str, sorted(classes)[:5]))
    return first + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")

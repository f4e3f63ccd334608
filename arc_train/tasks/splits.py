"""The splits of a user's own images: as given, and drawn where one is missing."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from arc_train.errors import InputError

Indices = NDArray[np.int64]

SPLITS = ("train", "val", "test")
# What people call them.
NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# The part of each class's images that a missing split is given.
SHARE = 0.2


def split_called(name: str) -> str | None:
    """The split that people call so, if it is one."""
    return next((split for split, names in NAMES.items() if name.strip().lower() in names), None)


def complete(
    given: Mapping[str, Indices],
    labels: Indices,
    names: Sequence[str],
    address: Callable[[int], str],
    seed: int,
    where: str,
) -> dict[str, Indices]:
    """All three splits; a missing val or test is drawn from the training images.

    A missing split gets a fifth of each class's images, one at least. Within its class an image is
    ranked by a hash of the seed and its address, so that the draw is the same on every machine, and
    an image that is added later moves few others.

    given: split -> indices of images. labels [N], names: the class of each image, and its name.
    address: index -> what an image is called wherever its data lie.

    Raises:
        InputError: no training images, a class too small to draw from, a class that cannot be
            learned, or only one class; begins with `where`.
    """
    if "train" not in given:
        raise InputError(f"{where}: no training images, only {' and '.join(given)}")
    if len(names) < 2:
        raise InputError(f"{where}: all images have one class, {names[0]!r}; a task needs two")
    missing = [split for split in ("test", "val") if split not in given]
    drawn: dict[str, list[int]] = {split: [] for split in ("train", *missing)}
    for label, name in enumerate(names):
        own = given["train"][labels[given["train"]] == label].tolist()
        if not own:
            seen = next(s for s in given if (labels[given[s]] == label).any())
            raise InputError(f"{where}: class {name!r} has {seen} images but no training image")
        if len(own) <= len(missing):
            raise InputError(
                f"{where}: class {name!r} has {len(own)} training images, too few to draw "
                f"{' and '.join(missing)} from: it needs {len(missing) + 1}, or give the splits"
            )
        ranked = sorted(own, key=lambda i: hashlib.sha256(f"{seed}|{address(i)}".encode()).digest())
        count = max(1, round(SHARE * len(own)))
        for split in missing:
            drawn[split] += ranked[:count]
            ranked = ranked[count:]
        drawn["train"] += ranked
    made = {split: np.array(sorted(rows), dtype=np.int64) for split, rows in drawn.items()}
    return {split: made[split] if split in made else given[split] for split in SPLITS}


def classes_of(
    labels: Sequence[str], places: Callable[[int], str]
) -> tuple[tuple[str, ...], Indices]:
    """The classes that labels name, in order, and the class of each label [N].

    Names stand in their own order, numbers in that of numbers.

    places: index -> where a label stands, for messages.

    Raises:
        InputError: a label is empty, or all are numbers and one isn't whole.
    """
    numbers: list[float] | None = []
    for i, label in enumerate(labels):
        if not label.strip():
            raise InputError(f"{places(i)}: the label is empty")
        try:
            if numbers is not None:
                numbers.append(float(label))
        except ValueError:
            numbers = None
    if numbers is None:
        names = sorted(set(labels))
        rank = {name: i for i, name in enumerate(names)}
        return tuple(names), np.array([rank[label] for label in labels], dtype=np.int64)
    for i, number in enumerate(numbers):
        if not number.is_integer() or abs(number) >= 2**53:
            raise InputError(
                f"{places(i)}: the label {labels[i][:40]} is no class: expected names or whole "
                "numbers"
            )
    whole, classes = np.unique(np.array(numbers, dtype=np.int64), return_inverse=True)
    return tuple(map(str, whole.tolist())), classes.astype(np.int64)

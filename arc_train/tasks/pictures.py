"""Single test images of a task, for people to look at when its finals are over."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.digest import Damaged
from arc_train.errors import InputError
from arc_train.tasks import stored
from arc_train.tasks.cache import cached_as
from arc_train.tasks.catalog import Task
from arc_train.tasks.hub import Draw
from arc_train.tasks.sources import HUB, open_source


def pick_test_images(
    task: Task,
    fingerprint: str,
    labels: NDArray[np.int32],
    places: Sequence[int],
    record: Callable[[], None],
    cache: Path,
    root: Path | None,
    draw: Draw,
) -> list[Image.Image]:
    """The test images at some places: from the node's cache, else from the task's own files.

    fingerprint: of the task's images and labels. labels: of all test images, in order; the task's
    own files must have the same. record: called before an image is read. root, draw: as of
    `open_source`.

    Raises:
        InputError: the images aren't on this machine; says why. Nothing is downloaded for them.
    """
    for folder in cached_as(task, fingerprint, cache):
        record()
        try:
            return [Image.fromarray(a) for a in stored.pick(folder, "test", "test", places)]
        except (Damaged, OSError):
            continue  # the files may still be there
    if root == HUB or (task.location and task.location.dataset):
        raise InputError(f"its images aren't in the cache {cache}")
    source = open_source(task, root, draw)
    if not np.array_equal(source.labels("test"), labels):
        raise InputError("its images here aren't those that the finals were tested on")
    record()
    wanted = set(places)
    found: dict[int, Image.Image] = {}
    for place, (image, _) in enumerate(source.images("test")):
        if place in wanted:
            found[place] = image
        if len(found) == len(wanted):
            break
    return [found[place] for place in places]

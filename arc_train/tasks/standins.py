"""Drawn stand-ins for any task, to rehearse a sweep before its images are there.

As many classes and images as the task has; each class is a soft pattern of its own, shown half
covered by another. They say nothing about the task, and every result made with them says so.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arc_train.tasks.catalog import Task

VARIANT = "stand-in"
HEIGHT, WIDTH, CELLS = 48, 64, 6
BLOCK = 512  # images drawn at a time


class StandInSource:
    """Splits, the same at every call.

    most: images in a split, or one for each class if it has more; None: as many as published.
    """

    variant = VARIANT
    split = "drawn"

    def __init__(self, task: Task, most: int | None = None) -> None:
        self.task = task
        published = {"train": task.train, "val": task.val, "test": task.test}
        limit = max(published.values()) if most is None else max(most, task.classes)
        self._sizes = {split: min(size, limit) for split, size in published.items()}

    def key(self) -> str:
        """Changes with the drawing code and the sizes, which is all that the images depend on."""
        drawn = f"{self.task.key}|{self._sizes}".encode()
        return hashlib.sha256(drawn + Path(__file__).read_bytes()).hexdigest()

    def size(self, split: str) -> int:
        return self._sizes[split]

    def labels(self, split: str) -> NDArray[np.int64]:
        """Whole rounds of all classes, shuffled."""
        rounds = np.arange(self._sizes[split], dtype=np.int64) % self.task.classes
        return self._generator(split, "labels").permutation(rounds)

    def images(self, split: str) -> Iterator[tuple[Image.Image, bytes]]:
        labels = self.labels(split)
        shape = (CELLS, CELLS, 3)
        patterns = self._generator("patterns").random((self.task.classes, *shape))
        draws = self._generator(split, "images")
        for start in range(0, len(labels), BLOCK):
            chosen = labels[start : start + BLOCK]
            mixed = 0.5 * patterns[chosen] + 0.5 * draws.random((len(chosen), *shape))
            drawn = np.einsum("hi,nijc,wj->nhwc", _soft(HEIGHT), mixed, _soft(WIDTH), optimize=True)
            for pixels in (255 * drawn).astype(np.uint8):
                yield Image.fromarray(pixels), pixels.tobytes()

    def _generator(self, *names: str) -> np.random.Generator:
        digest = hashlib.sha256("|".join((self.task.key, *names)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _soft(length: int) -> NDArray[np.float64]:
    """Linear interpolation from CELLS to `length` points, [length, CELLS]."""
    at = np.linspace(0, CELLS - 1, length)[:, None]
    weights: NDArray[np.float64] = np.clip(1 - np.abs(at - np.arange(CELLS)), 0, None)
    return weights

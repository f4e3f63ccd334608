"""The node cache: a task's images decoded once, as memory-mapped uint8 arrays per split.

A cache entry's folder is named by what it was made from (files, their sizes and times, image
size), so a changed file means another entry. Entries appear whole, by renaming; a lock makes
other processes wait instead of decoding the same images again.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from arc_train.tasks.catalog import Task
from arc_train.tasks.sources import SPLITS, Source, open_source

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A prepared task: `fingerprint` (16 hex digits of the images' bytes and labels), `variant`."""

    folder: Path
    fingerprint: str
    variant: str
    sizes: dict[str, int]

    def load(self, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images uint8 [N, S, S, 3], memory-mapped read-only, and labels int64 [N]."""
        images = np.load(self.folder / f"{split}.images.npy", mmap_mode="r")
        return images, np.load(self.folder / f"{split}.labels.npy")


def default_folder() -> Path:
    """$ARC_SWEEP_CACHE, or arc-sweep in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ARC_SWEEP_CACHE") or f"{home}/arc-sweep").expanduser()


def prepare(
    task: Task,
    root: Path | None,
    size: int,
    cache: Path,
    progress: Callable[[int], None] = lambda images: None,
) -> Entry:
    """The task's cache entry, made now if it isn't there.

    size: images are resized to [size, size] bicubic without keeping the aspect, as published.
    progress: called with the number of images decoded since the last call.

    Raises:
        InputError: a list or an image is wrong; nothing is left behind.
    """
    source = open_source(task, root)
    key = hashlib.sha256(f"{FORMAT}|{size}|{source.key()}".encode()).hexdigest()[:24]
    folder = cache / task.key.replace("/", "-") / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            _build(source, size, folder, progress)
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return Entry(folder, meta["fingerprint"], meta["variant"], meta["sizes"])


def _build(source: Source, size: int, folder: Path, progress: Callable[[int], None]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        digest = hashlib.sha256()
        for split in SPLITS:
            labels = source.labels(split)
            pixels = np.lib.format.open_memmap(
                scratch / f"{split}.images.npy", "w+", np.uint8, (len(labels), size, size, 3)
            )
            for i, (image, content) in enumerate(source.images(split)):
                digest.update(hashlib.sha256(content).digest())
                if image.size != (size, size):
                    image = image.resize((size, size), Image.Resampling.BICUBIC)
                pixels[i] = np.asarray(image)
                progress(1)
            pixels.flush()
            del pixels
            digest.update(f"{split}".encode() + labels.tobytes())
            np.save(scratch / f"{split}.labels.npy", labels)
        meta = {
            "fingerprint": digest.hexdigest()[:16],
            "variant": source.variant,
            "sizes": {split: source.size(split) for split in SPLITS},
        }
        (scratch / "meta.json").write_text(json.dumps(meta))
        os.replace(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise

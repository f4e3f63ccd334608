"""A large data set of one's own: how fast it is decoded and read, and in how much memory.

Writes JPEG files (300x225, 400 distinct pictures, no two files alike) in the layouts of a squashed
and of a cropped task, and runs each part in a process of its own: a plain loop that decodes and
resizes, `prepare`, opening the training images (every one is verified), and an epoch of batches.
Seconds of CPU are those of all threads: other work on the machine doesn't change them much.

    python benchmarks/many_images.py --images 20000
"""

import argparse
import io
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from arc_train.tasks import cache
from arc_train.tasks.catalog import catalog
from arc_train.tasks.transform import transform
from arc_train.tasks.views import Split, search_data

SIDE, BATCH = 224, 32
TASKS = {"squashed": "vtab/caltech101", "cropped and mirrored": "fgvc/cub200"}
DISTINCT, LOOP = 400, 2000  # pictures; images of the plain loop
SHARES = {"train": 0.8, "val": 0.05, "test": 0.15}


def pictures() -> list[bytes]:
    """JPEG files in the place of photographs: soft colours with some grain."""
    draws = np.random.default_rng(0)
    made = []
    for _ in range(DISTINCT):
        soft = Image.fromarray(draws.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        pixels = np.asarray(soft.resize((300, 225), Image.Resampling.BICUBIC)).astype(int)
        grain = (pixels + draws.integers(-12, 12, pixels.shape)).clip(0, 255)
        file = io.BytesIO()
        Image.fromarray(grain.astype(np.uint8)).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


def write(root: Path, images: int) -> list[Path]:
    """The files, and lists of them for both tasks, which share them."""
    made, place, files = pictures(), root / "images", []
    place.mkdir()
    for number in range(images):
        files.append(place / f"{number}.jpg")
        # Bytes behind the end of a picture are ignored, and make each file another.
        files[-1].write_bytes(made[number % DISTINCT] + str(number).encode())
    for key in TASKS.values():
        task = catalog()[key]
        folder = root / task.folders[0]
        folder.mkdir()
        (folder / "images").symlink_to(place)
        begin = 0
        for split, share in SHARES.items():
            names = [f"images/{file.name}" for file in files[begin : begin + round(share * images)]]
            begin += len(names)
            lines = [f"{name} {i % task.classes}" for i, name in enumerate(names)]
            stem = {"train": "train800", "val": "val200"}.get(split, split)
            (folder / f"{stem}.txt").write_text("\n".join(lines))
            labels = {Path(name).name: i % task.classes for i, name in enumerate(names)}
            (folder / f"{split}.json").write_text(json.dumps(labels))
    return files


def loop(key: str, files: list[Path]) -> int:
    """The least that decoding can be: one thread, nothing kept."""
    how = transform(catalog()[key], SIDE)
    for file in files[:LOOP]:
        with Image.open(file) as image:
            np.asarray(how.apply(image.convert("RGB")))
    return len(files[:LOOP])


def prepare(key: str, root: Path, folder: Path) -> int:
    """All of `data prepare`: read, decode, resize, hash, write, sync."""
    last = [0]

    def decoded(done: int, total: int) -> None:
        last[0] = done

    cache.prepare(catalog()[key], root, SIDE, folder, decoded)
    return last[0]


def train(key: str, root: Path, folder: Path) -> Split:
    """The training images, opened as a pack opens them: every one is verified."""
    return search_data(cache.prepare(catalog()[key], root, SIDE, folder)).train


def epoch(split: Split) -> int:
    """One pass in a drawn order, in batches as a run takes them."""
    places = torch.rand(len(split), 3) if split.cropped else None
    for index in torch.randperm(len(split)).split(BATCH):
        split.batch(index, None if places is None else places[index])
    return len(split)


def measured(work: Callable[[], int]) -> dict[str, float]:
    """Images, seconds, CPU seconds, and what this process held at most beyond its start."""
    stop, held = threading.Event(), [0]
    start = memory()

    def watch() -> None:
        while not stop.wait(0.02):
            held[0] = max(held[0], memory() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin, cpu = time.perf_counter(), time.process_time()
    images = work()
    took = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    stop.set()
    watcher.join()
    return {"images": images, **took, "held": held[0]}


def memory() -> int:
    """Bytes that are this process's own: mapped files aren't, the system drops them at will."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def part(name: str, key: str, root: Path, folder: Path, files: list[Path], answers: Any) -> None:
    torch.set_num_threads(1)
    if name == "epoch":
        split = train(key, root, folder)
        answers.put(measured(lambda: epoch(split)))
    elif name == "loop":
        answers.put(measured(lambda: loop(key, files)))
    elif name == "prepare":
        answers.put(measured(lambda: prepare(key, root, folder)))
    else:
        answers.put(measured(lambda: len(train(key, root, folder))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--scratch", help="where files and cache go while this runs")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        root = Path(scratch)
        files = write(root, options.images)
        print(f"{options.images:,} images at {SIDE} px, batches of {BATCH}")
        print(f"{'':32}{'images/s':>10}{'CPU ms an image':>17}{'own memory, MB':>16}")
        for kind, key in TASKS.items():
            folder = root / key.replace("/", "-")
            for name in ("loop", "prepare", "open", "epoch"):
                answers = context.Queue()
                given = (name, key, root, folder, files, answers)
                process = context.Process(target=part, args=given)
                process.start()
                found = answers.get()
                process.join()
                line = f"{f'{kind}: {name}':32}{found['images'] / found['seconds']:10,.0f}"
                line += f"{1000 * found['cpu'] / found['images']:17.3f}"
                print(f"{line}{found['held'] / 1e6:16.0f}", flush=True)


if __name__ == "__main__":
    main()

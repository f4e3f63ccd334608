"""How fast images come: decoded into the cache, read from it, and by torchvision's usual loader.

All ways take turns on the same files in one run, so that other load hits each of them; beside them
stand what the machine could do at most: PIL's decoding alone, and a plain copy of memory. Then the
memory of processes that share a warm cache. Many images, and crops: many_images.py.

    python benchmarks/loading.py --root DIR       # with caltech101/ in NOAH's layout; else drawn
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from arc_train.tasks.cache import Entry, prepare
from arc_train.tasks.catalog import catalog
from arc_train.tasks.lists import VTABSource
from arc_train.tasks.splits import SPLITS
from arc_train.tasks.views import search_data

TASK = catalog()["vtab/caltech101"]
BATCH = 32
SIZES = (224, 32)
COPIED = 2**28  # bytes


def draw(root: Path) -> None:
    """JPEG files in the place of photographs: soft colours with some grain."""
    draws = np.random.default_rng(0)
    folder = root / TASK.folders[0]
    folder.mkdir()
    for name, count in (("train800", 800), ("val200", 200), ("test", 500)):
        lines = []
        for i in range(count):
            soft = Image.fromarray(draws.integers(0, 255, (6, 8, 3), dtype=np.uint8))
            pixels = np.asarray(soft.resize((300, 225), Image.Resampling.BICUBIC)).astype(int)
            grain = pixels + draws.integers(-12, 12, pixels.shape)
            image = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
            image.save(folder / f"{name}-{i}.jpg", quality=90)
            lines.append(f"{name}-{i}.jpg {i % TASK.classes}")
        (folder / f"{name}.txt").write_text("\n".join(lines))


def image_folder(source: VTABSource, folder: Path) -> Path:
    """The same files as torchvision's ImageFolder wants them, as links."""
    for split in SPLITS:
        for number, line in enumerate(source.rows(split)):
            place = folder / f"{line.label:03d}" / f"{split}-{number}{line.path.suffix}"
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(line.path)
    return folder


def decode(source: VTABSource) -> int:
    """PIL alone: every file to RGB pixels, nothing else."""
    lines = [line for split in SPLITS for line in source.rows(split)]
    for line in lines:
        with Image.open(line.path) as image:
            image.convert("RGB")
    return len(lines)


def torchvision_loader(folder: Path, size: int, workers: int) -> DataLoader[Any]:
    """The usual way, up to the same uint8 pixels."""
    resize = transforms.Resize((size, size), transforms.InterpolationMode.BICUBIC)
    steps = transforms.Compose([resize, transforms.PILToTensor()])
    images = datasets.ImageFolder(str(folder), steps)
    return DataLoader(images, BATCH, shuffle=True, num_workers=workers)


def read(batches: Iterator[torch.Tensor]) -> int:
    return sum(len(batch) for batch in batches)


def cached_batches(entry: Entry, epochs: int) -> Iterator[torch.Tensor]:
    """Training batches as a sweep takes them."""
    split = search_data(entry).train
    for _ in range(epochs):
        for index in torch.randperm(len(split)).split(BATCH):
            yield split.batch(index)


def opened(entry: Entry) -> int:
    """What a pack does first: every training image is compared with its digest."""
    return len(entry.load("train")[1])


def copy_memory(source: np.ndarray, target: np.ndarray) -> int:
    np.copyto(target, source)
    return source.nbytes


def rate(work: Callable[[], int]) -> float:
    """Images (or bytes) per second."""
    begin = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - begin)


def measure(root: Path, rounds: int) -> None:
    """Print rates of all ways, as medians over rounds."""
    source = VTABSource(TASK, root / TASK.folders[0])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "folder")
        folder.mkdir()
        image_folder(source, folder)
        entries = {size: prepare(TASK, root, size, Path(scratch, "warm")) for size in SIZES}
        block, target = (np.ones(COPIED, np.uint8) for _ in range(2))
        ways: dict[str, Callable[[], int]] = {
            "PIL decoding alone": partial(decode, source),
            "copy of memory": partial(copy_memory, block, target),
        }

        def build(size: int) -> int:
            with tempfile.TemporaryDirectory(dir=scratch) as cold:
                prepare(TASK, root, size, Path(cold))
            return sum(source.size(split) for split in SPLITS)

        def usual(size: int, workers: int) -> int:
            return read(images for images, _ in torchvision_loader(folder, size, workers))

        for size, entry in entries.items():
            ways[f"{size} px: decoded into the cache, once"] = partial(build, size)
            for workers in (0, 2):
                ways[f"{size} px: ImageFolder, {workers} workers"] = partial(usual, size, workers)
            ways[f"{size} px: opened, each image verified"] = partial(opened, entry)
            ways[f"{size} px: batches from the cache"] = partial(
                lambda entry, epochs: read(cached_batches(entry, epochs)), entry, 4096 // size
            )
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, work in ways.items():
                rates[name].append(rate(work))
        report(rates)
        for size, entry in entries.items():
            share(entry, size)


def report(rates: dict[str, list[float]]) -> None:
    """A line for each way: median and range, and ratios taken within rounds."""
    copied = statistics.median(rates.pop("copy of memory"))
    print(f"copy of memory: {copied / 1e9:.1f} GB/s; batches of {BATCH}, one thread")
    print(f"{'images/s':38}{'median':>9}{'range':>20}{'of PIL alone':>14}{'of ImageFolder, 0':>19}")
    for name, found in rates.items():
        size = name.split(" px")[0]
        line = f"{name:38}{statistics.median(found):9,.0f}"
        line += f"{f'{min(found):,.0f} to {max(found):,.0f}':>20}"
        line += f"{_ratio(found, rates['PIL decoding alone']):14.2f}"
        if " px" in name:
            line += f"{_ratio(found, rates[f'{size} px: ImageFolder, 0 workers']):19.2f}"
        if "batches" in name or "verified" in name:
            moved = statistics.median(found) * 3 * int(size) ** 2
            line += f"   {moved / 1e9:.2f} GB/s, {moved / copied:.0%} of a plain copy"
        print(line)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def proportional() -> int:
    """Bytes of this process, shared pages divided by the processes that share them."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def hold(entry: Entry, barrier: Any, answers: Any) -> None:
    """Read all training images while others do, and say what that added to this process."""
    torch.set_num_threads(1)
    read(cached_batches(entry, 1))  # what batches need besides the images is there from now on
    barrier.wait()
    before = proportional()
    barrier.wait()
    split = search_data(entry).train
    total = int(torch.as_tensor(split.images).sum(dtype=torch.int64))
    barrier.wait()
    answers.put((proportional() - before, total))
    barrier.wait()


def share(entry: Entry, size: int) -> None:
    """Print what processes that read one warm cache add, each and together."""
    held = len(search_data(entry).train) * 3 * size**2  # not kept: what is mapped here is shared
    context = multiprocessing.get_context("spawn")
    for count in (1, 2, 4):
        barrier, answers = context.Barrier(count), context.Queue()
        processes = [
            context.Process(target=hold, args=(entry, barrier, answers)) for _ in range(count)
        ]
        for process in processes:
            process.start()
        added = [answers.get()[0] for _ in processes]
        for process in processes:
            process.join()
        print(
            f"{size} px, {count} processes: {held / 1e6:.1f} MB of training images; each adds "
            f"{statistics.median(added) / 1e6:.1f} MB, together {sum(added) / 1e6:.1f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, help="data root with caltech101/ (default: drawn)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as drawn:
        if options.root is None:
            draw(Path(drawn))
            print("drawn images: give --root for photographs")
        measure(options.root or Path(drawn), options.rounds)


if __name__ == "__main__":
    main()

"""What successive halving saves and what it costs: the same trials with rungs and without.

Each seed draws configurations and trains them twice from the same start: all to the end, and with
halving. A trial that no rung stops takes the same steps both times, so the two ways differ only in
who is left. Nothing but training and validation images is looked at.

    SHARED=<folder with cifar/, caltech101/, backbone/> python benchmarks/halving.py
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

from arc_train import backbones
from arc_train.pack import Member
from arc_train.seeding import seed_of
from arc_train.tasks import cache
from arc_train.tasks.catalog import catalog
from arc_train.tasks.views import Split, search_data
from arc_train.training import Halving, Images, PackRun, Recipe
from orchestrator.leaderboard.select import select
from orchestrator.space import random_configs
from orchestrator.spec import load


class Way(NamedTuple):
    """One way through a search: what it spent and whom it chose."""

    epochs: int
    seconds: float
    winner: str
    accuracy: float


def walk(run: PackRun, members: Mapping[str, Member]) -> Way:
    """Train a pack to its end and choose as a sweep does."""
    started = time.perf_counter()
    outcomes = []
    while not run.done:
        outcomes += run.run_epoch()
    seconds = time.perf_counter() - started
    best = select({**vars(o), "kind": "search", "config": members[o.id].config} for o in outcomes)
    if best is None:
        raise SystemExit("every trial diverged")
    return Way(sum(o.epochs_run for o in outcomes), seconds, best["id"], best["val_accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["vtab/cifar100", "vtab/caltech101"])
    parser.add_argument("--methods", nargs="+", default=["linear", "mlp"])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--start", type=int, default=3, help="epoch of the first rung")
    parser.add_argument("--eta", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=800, help="training images, at most")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = load(Path(__file__).with_name("photos.yaml"))
    backbone = spec.backbones[0].backbone()
    model = backbones.build(backbone)
    prepare = Images(*backbones.statistics(backbone, model, "backbone"), torch.device("cpu"))
    recipe = Recipe(options.epochs, options.batch, warmup_epochs=options.epochs / 10)
    halving = Halving(options.start, options.eta)
    print(f"{vars(options)}, rungs {halving.rungs(options.epochs)}")
    print(f"{'method':10}{'task':18}  trial-epochs   seconds        val of winner   same winner")
    for method in options.methods:
        for name in options.tasks:
            task = catalog()[name]
            side = backbones.input_size(model)
            data = search_data(cache.prepare(task, spec.data_root, side, spec.cache_folder))
            train = Split(data.train.images[: options.images], data.train.labels[: options.images])
            pairs = []
            for seed in range(options.seeds):
                drawn = random_configs(spec.space(method), seed_of(seed, name), options.trials)
                members = [Member(str(i), c, seed_of(seed, i)) for i, c in enumerate(drawn)]
                pairs.append(
                    [
                        walk(
                            PackRun(
                                model, method, task.classes, members, [seed] * len(members),
                                recipe, prepare, train, data.val, rungs, spec.pack.chunk,
                            ),
                            {member.id: member for member in members},
                        )
                        for rungs in (None, halving)
                    ]
                )  # fmt: skip
            every, raced = (
                Way(
                    *(
                        fmean(column) if not isinstance(column[0], str) else ""
                        for column in zip(*ways, strict=True)
                    )
                )
                for ways in zip(*pairs, strict=True)
            )
            same = sum(a.winner == b.winner for a, b in pairs)
            print(
                f"{method:10}{name:18}{every.epochs:6.0f} -> {raced.epochs:4.0f}"
                f"{every.seconds:8.1f} -> {raced.seconds:5.1f}"
                f"{every.accuracy:8.2f} -> {raced.accuracy:5.2f}   {same} of {len(pairs)}",
                flush=True,
            )


if __name__ == "__main__":
    main()

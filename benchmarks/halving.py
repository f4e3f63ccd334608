"""What successive halving saves and what it costs: the same trials with rungs and without.

Each seed draws configurations and trains them twice from the same start: all to the end, and with
halving. A trial that no rung stops takes the same steps both times, so the two ways differ only in
who is left. Nothing but training and validation images is looked at.

    SHARED=<folder with cifar/, caltech101/, backbone/> python benchmarks/halving.py
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, cast

import torch

from arc_train import backbones
from arc_train.feed import Images
from arc_train.hyperparameters.space import random_configs
from arc_train.pack import Member
from arc_train.recipe import Halving, Recipe
from arc_train.seeding import seed_of
from arc_train.tasks import cache
from arc_train.tasks.catalog import catalog
from arc_train.tasks.views import Split, search_data
from arc_train.training import PackRun
from orchestrator.search.selection import Candidate, select
from orchestrator.spec import load
from orchestrator.store.result import Status


class Way(NamedTuple):
    """One way through a search: what it spent and whom it chose."""

    epochs: int
    seconds: float
    accuracy: float
    winner: str


def walk(run: PackRun, members: Sequence[Member]) -> Way:
    """Train a pack to its end and choose as a sweep does."""
    started = time.perf_counter()
    configs = {member.id: member.config for member in members}
    outcomes = []
    while not run.done:
        outcomes += run.run_epoch()
    seconds = time.perf_counter() - started
    best = select(
        Candidate(
            outcome.id,
            "search",
            configs[outcome.id],
            0,
            cast(Status, outcome.status),
            outcome.val_accuracy,
            outcome.val_loss,
            outcome.trainable_params,
        )
        for outcome in outcomes
    )
    if best is None or best.val_accuracy is None:
        raise SystemExit("every trial diverged")
    return Way(sum(o.epochs_run for o in outcomes), seconds, best.val_accuracy, best.id)


def mean(ways: Sequence[Way], name: str) -> float:
    """Of one figure, over the seeds."""
    return fmean(getattr(way, name) for way in ways)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["vtab/cifar100", "vtab/caltech101"])
    parser.add_argument("--methods", nargs="+", default=["linear", "mlp"])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--start", type=int, default=3, help="epoch of the first rung")
    parser.add_argument("--eta", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=800, help="training images, at most")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = load(Path(__file__).with_name("photos.yaml"))
    backbone = spec.backbones[0].backbone()
    model = backbones.build(backbone)
    side = backbones.input_size(model)
    prepare = Images(*backbones.statistics(backbone, model, "backbone"), torch.device("cpu"))
    recipe = Recipe(options.epochs, options.batch, warmup_epochs=options.epochs / 10)
    halving = Halving(options.start, options.eta)
    print(f"{vars(options)}, rungs {halving.rungs(options.epochs)}; all -> with halving, means")
    print(
        f"{'method':10}{'task':18}{'trial-epochs':>13}{'seconds':>17}{'val of winner':>18}   same"
    )
    for method, name in itertools.product(options.methods, options.tasks):
        task = catalog()[name]
        data = search_data(cache.prepare(task, spec.data_root, side, spec.cache_folder))
        train = Split(data.train.images[: options.images], data.train.labels[: options.images])
        pairs = []
        for seed in range(options.seeds):
            drawn = random_configs(spec.space(method), seed_of(seed, name), options.trials)
            members = [Member(str(i), config, seed_of(seed, i)) for i, config in enumerate(drawn)]
            orders = [seed] * len(members)
            pairs.append(
                [
                    walk(
                        PackRun(
                            model, method, task.classes, members, orders, recipe, prepare, train,
                            data.val, rungs, spec.pack.chunk,
                        ),
                        members,
                    )
                    for rungs in (None, halving)
                ]
            )  # fmt: skip
        every, raced = zip(*pairs, strict=True)
        same = sum(a.winner == b.winner for a, b in pairs)
        print(
            f"{method:10}{name:18}"
            f"{mean(every, 'epochs'):6.0f} -> {mean(raced, 'epochs'):3.0f}"
            f"{mean(every, 'seconds'):8.1f} -> {mean(raced, 'seconds'):5.1f}"
            f"{mean(every, 'accuracy'):9.2f} -> {mean(raced, 'accuracy'):5.2f}"
            f"{same:5} of {len(every)}",
            flush=True,
        )


if __name__ == "__main__":
    main()

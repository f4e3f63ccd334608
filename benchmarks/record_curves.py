"""Records whole learning curves: every study of a sweep file, no trial stopped, each one tested.

    python benchmarks/record_curves.py SPEC FOLDER [--images 200] [--seed 1]

The table is for research on rules: which trials to stop, and how to choose among those that are
left. Sweeps never read it, and their seal of the test split is as it was: here every trial is
tested after its last epoch, which a sweep does with no trial of a search.

Trials are those of a sweep's search (algorithm, rounds, space), each study alone. A file a study,
written when the study is complete, so that the same command goes on where it was left. With --seed
the configurations of the folder's studies are trained again, other in all that is random, for
revalidation.py; their files stand in FOLDER/seed-1.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from arc_train import backbones
from arc_train.feed import Images
from arc_train.hyperparameters.searchers import SEARCHERS, Observation, Problem
from arc_train.hyperparameters.space import Config
from arc_train.methods import recommended
from arc_train.outcome import Outcome
from arc_train.pack import Member
from arc_train.recipe import Recipe
from arc_train.seeding import seed_of
from arc_train.tasks import cache
from arc_train.tasks.views import SearchData, Split, final_data, sample, search_data
from arc_train.training import PackRun
from orchestrator.plan import rounds, studies
from orchestrator.search.curves import Curves
from orchestrator.spec import Spec, load
from orchestrator.store.result import Study

MOST_TEST_IMAGES = 1000


def main() -> None:
    """Record the studies that the folder lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("spec", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, help="training images, at most")
    parser.add_argument("--seed", type=int, help="train what is recorded under another seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    again = options.seed is not None
    folder = options.folder / f"seed-{options.seed}" if again else options.folder
    folder.mkdir(parents=True, exist_ok=True)
    spec = load(options.spec)
    for study in studies(spec):
        name = f"{str(study).replace('/', '-')}.npz"
        path, first = folder / name, options.folder / name
        if path.exists() or (again and not first.exists()):
            continue
        started = time.monotonic()
        recorded = Recorded(spec, study, options.images)
        if again:
            curves = recorded.train(Curves.read(first).configs, options.seed)
        else:
            curves = recorded.search()
        curves.write(path)
        spent, best = time.monotonic() - started, np.nanmax(curves.test_accuracy)
        size = path.stat().st_size / 1e3
        print(f"{study}: {spent:.0f} s, {size:.0f} kB, best {best:.1f} % on test", flush=True)


class Recorded:
    """One study: its backbone and its images, at most so many of them for training."""

    def __init__(self, spec: Spec, study: Study, images: int | None) -> None:
        self.spec, self.study = spec, study
        backbone = spec.backbone(study.backbone)
        self.model: nn.Module = backbones.build(backbone)
        statistics = backbones.statistics(backbone, self.model, spec.data.normalise)
        self.prepare = Images(*statistics, torch.device("cpu"))
        side = backbones.input_size(self.model)
        entry = cache.prepare(spec.catalog[study.task], spec.data_root, side, spec.cache_folder)
        self.classes = entry.task.classes
        data = search_data(entry, spec.seed)
        self.data: SearchData = replace(data, train=sample(data.train, images, spec.seed))
        test = final_data(entry, "train", lambda: None).open_test()
        evenly = torch.linspace(0, len(test) - 1, min(len(test), MOST_TEST_IMAGES))
        self.test: Split = test.take(evenly.long())

    def search(self) -> Curves:
        """Propose as a sweep would, and train all to the end."""
        space, first = self.spec.space(self.study.method), recommended(self.study.method).first
        seed = seed_of(self.spec.seed, self.study, "configs")
        seen: list[Observation] = []
        parts = []
        for number in rounds(self.spec, self.study):
            problem = Problem(space, seed, first, seen)
            part = self.train(SEARCHERS[self.spec.search.algorithm](problem, number))
            parts.append(part)
            for i, config in enumerate(part.configs):
                accuracy = 100 * float(part.right[i, -1].mean())
                diverged = np.isnan(part.test_accuracy[i])
                seen.append(Observation(config, None if diverged else accuracy))
        return Curves.joined(parts)

    def train(self, configs: Sequence[Config], *again: int) -> Curves:
        """One pack to its end: validated after every epoch, tested after the last.

        again: another seed of initialisation, dropout and batches than the search's.
        """
        run = self._run(configs, *again)
        shape = (len(configs), run.recipe.epochs, len(self.data.val))
        right, losses = np.zeros(shape, bool), np.full(shape[:2], np.nan, np.float32)
        ended: list[Outcome] = []
        while not run.done:
            ended += run.run_epoch()
            for member, said in zip(run.pack.members, run.predict_val(), strict=True):
                right[int(member.id), run.epoch - 1] = said.right
                losses[int(member.id), run.epoch - 1] = said.loss.mean()
        tested = np.full(len(configs), np.nan, np.float32)
        for member, said in zip(run.pack.members, run.predict(self.test), strict=True):
            tested[int(member.id)] = said.accuracy
        train_losses = np.full(shape[:2], np.nan, np.float32)
        ended.sort(key=lambda outcome: int(outcome.id))
        for i, outcome in enumerate(ended):
            for row in outcome.curve:
                train_losses[i, row.epoch - 1] = row.train_loss
        return Curves(
            self.study,
            tuple(configs),
            (len(configs),),
            right,
            losses,
            train_losses,
            tested,
            np.array([outcome.trainable_params for outcome in ended]),
            np.array([outcome.seconds for outcome in ended], np.float32),
        )

    def _run(self, configs: Sequence[Config], *again: int) -> PackRun:
        training, seed = self.spec.training, self.spec.seed
        texts = (json.dumps(config, sort_keys=True) for config in configs)
        seeds = [seed_of(seed, self.study, text, *again) for text in texts]
        members = [Member(str(i), configs[i], seed) for i, seed in enumerate(seeds)]
        return PackRun(
            self.model,
            self.study.method,
            self.classes,
            members,
            [seed_of(seed, self.study, "order", *again)] * len(members),
            Recipe(
                training.epochs, training.batch_size, training.warmup_epochs, clip=training.clip
            ),
            self.prepare,
            self.data.train,
            self.data.val,
            chunk=self.spec.pack.chunk,
        )


if __name__ == "__main__":
    main()

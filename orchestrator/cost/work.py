"""What a sweep has to do at most, counted before anything runs: trials, packs, epochs, images."""

from collections.abc import Mapping
from dataclasses import dataclass

from arc_train.errors import InputError
from arc_train.methods import METHODS
from arc_train.packing import split
from arc_train.tasks.sources import HUB, open_source
from arc_train.tasks.splits import SPLITS
from orchestrator.plan import budget, halving, pack_size, rounds, studies
from orchestrator.spec import Spec
from orchestrator.store.result import Study


def task_sizes(spec: Spec) -> dict[str, tuple[int, int, int]]:
    """Images per split, from the lists where they can be read, else of the published split.

    Raises:
        InputError: a user's own task, of which nothing is published, can't be read.
    """
    sizes = {}
    for key, task in spec.catalog.items():
        if spec.data_root == HUB and task.location is None:  # a plan downloads nothing published
            sizes[key] = (task.train, task.val, task.test)
            continue
        try:
            source = open_source(task, spec.data_root, spec.draw)
        except InputError:
            if task.location is not None:
                raise
            sizes[key] = (task.train, task.val, task.test)
        else:
            train, val, test = (source.size(split) for split in SPLITS)
            sizes[key] = (train, val, test)
    return sizes


@dataclass(frozen=True)
class Cost:
    """What a sweep costs at most: epochs of single trials, passes of an image by a single trial."""

    studies: int
    search_trials: int
    final_trials: int
    packs: int
    epochs_trained: int
    images_trained: int
    images_validated: int
    images_tested: int


def published_cost(spec: Spec, sizes: Mapping[str, tuple[int, int, int]]) -> Cost:
    """What the same table costs by the protocol of most published code in this field.

    As many configurations, each trained alone on train + val for all epochs, without rungs, and
    tested on the whole test set after every epoch; the best of those epochs is what is reported,
    so that nothing is refitted, nothing validated, and there is one seed.
    """
    search = epochs = trained = tested = 0
    for study in studies(spec):
        train, val, test = sizes[study.task]
        trials = budget(spec, study)
        search += trials
        each = trials * epochs_of(spec, study)
        epochs += each
        trained += each * (train + val)
        tested += each * test
    return Cost(len(studies(spec)), search, 0, search, epochs, trained, 0, tested)


@dataclass(frozen=True)
class Stretch:
    """Epochs that so many trials of a pack train side by side."""

    alive: int
    epochs: int


@dataclass(frozen=True)
class Work:
    """One pack, at most.

    stretches: one after the other, from its start to its end. images: what a trial trains on in an
    epoch. validated, tested: images that pass through trials for that. shared: whether all trials
    see the same batches.
    """

    stretches: tuple[Stretch, ...]
    images: int
    validated: int
    tested: int
    shared: bool = False

    @property
    def trials(self) -> int:
        """Those that it starts with."""
        return self.stretches[0].alive

    @property
    def epochs(self) -> int:
        """Epochs of single trials."""
        return sum(part.alive * part.epochs for part in self.stretches)

    @property
    def trained(self) -> int:
        """Images that pass through trials in training."""
        return self.epochs * self.images


def epochs_of(spec: Spec, study: Study) -> int:
    """Epochs of a trial that is never stopped; a head in closed form has one."""
    return 1 if METHODS[study.method].solve else spec.training.epochs


def pack_work(
    spec: Spec, kind: str, trials: int, sizes: tuple[int, int, int], study: Study
) -> Work:
    """What a pack of so many trials does at most; kind: search, revalidate or final."""
    train, val, test = sizes
    searched = min(train, spec.catalog[study.task].limit or train)
    epochs, rungs = epochs_of(spec, study), halving(spec)
    whole = (Stretch(trials, epochs),)
    if kind == "final":
        refit = train + (val if spec.protocol.final_on == "train+val" else 0)
        tests = epochs if spec.protocol.leak_meter else 1
        return Work(whole, refit, 0, trials * tests * test)
    if kind == "revalidate" or rungs is None:
        return Work(whole, searched, trials * val, 0, shared=kind == "search")
    stretches, alive, epoch = [], trials, 0
    for rung in [*rungs.rungs(epochs), epochs]:
        stretches.append(Stretch(alive, rung - epoch))
        alive, epoch = max(1, alive // rungs.eta), rung
    validated = sum(part.alive for part in stretches) * val
    return Work(tuple(stretches), searched, validated, 0, shared=True)


def work(spec: Spec, study: Study, sizes: tuple[int, int, int]) -> list[list[Work]]:
    """A study's stages: rounds of its search, its best trials again, its finals.

    Stages follow each other; the packs of one can run side by side.

    sizes: images of (train, val, test).
    """
    again = min(spec.selection.revalidate, budget(spec, study)) * spec.selection.seeds
    stages = [("search", count) for count in rounds(spec, study)]
    stages += [("revalidate", again), ("final", len(spec.finals.seeds))]
    size = pack_size(spec, study)
    return [
        [pack_work(spec, kind, len(part), sizes, study) for part in split(range(count), size)]
        for kind, count in stages
    ]


def cost(spec: Spec, sizes: Mapping[str, tuple[int, int, int]]) -> Cost:
    """Count before anything runs; sizes: task -> images of (train, val, test)."""
    search, finals = [], []
    for study in studies(spec):
        *stages, last = work(spec, study, sizes[study.task])
        search += [pack for stage in stages for pack in stage]
        finals += last
    packs = search + finals
    return Cost(
        len(studies(spec)),
        sum(pack.trials for pack in search),
        sum(pack.trials for pack in finals),
        len(packs),
        sum(pack.epochs for pack in packs),
        sum(pack.trained for pack in packs),
        sum(pack.validated for pack in packs),
        sum(pack.tested for pack in packs),
    )

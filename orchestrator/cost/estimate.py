"""Plan -> hours, money, memory and disk, at the rates of a worker."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from arc_train.errors import InputError
from arc_train.methods.counts import trained
from arc_train.packing import BYTES_PER_WEIGHT
from arc_train.tasks.catalog import Task
from arc_train.tasks.sources import open_source
from orchestrator.cost.operations import size
from orchestrator.cost.rates import Rates
from orchestrator.cost.work import work
from orchestrator.plan import pack_size, studies
from orchestrator.spec import Spec
from orchestrator.store.result import Study


@dataclass(frozen=True)
class Estimate:
    """What a sweep takes at most on GPUs of one kind.

    hours_longest_study: with as many GPUs as packs, the study that ends last decides.
    money: in the price's currency; None without a price.
    pack_memory_gb: weights, gradients and optimiser state of the largest pack with its backbone;
        activations come on top, and `pack.chunk` is halved where they don't fit.
    results_gb: what finals learned, once.
    """

    gpu: str
    gpu_hours: float
    hours_longest_study: float
    longest_study: str
    money: float | None
    pack_memory_gb: float
    results_gb: float
    assumption: str


def estimate(
    spec: Spec,
    sizes: Mapping[str, tuple[int, int, int]],
    rates: Rates,
    price: float | None = None,
) -> Estimate:
    """Estimate before anything runs.

    sizes: task -> images of (train, val, test). price: of one worker for one hour.

    Raises:
        InputError: a price that is none.
    """
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise InputError(f"--price must be the price of one GPU-hour, found {price:g}")
    total, critical = 0.0, {}
    for study in studies(spec):
        stages = work(spec, study, sizes[study.task])
        hours = [[rates.seconds(spec, study, pack) / 3600 for pack in packs] for packs in stages]
        total += sum(map(sum, hours))
        critical[study] = sum(max(packs) for packs in hours if packs)
    classes = {key: _classes(spec, task) for key, task in spec.catalog.items()}
    longest = max(critical, key=lambda study: critical[study])
    return Estimate(
        gpu=rates.device,
        gpu_hours=total,
        hours_longest_study=critical[longest],
        longest_study=str(longest),
        money=None if price is None else total * price,
        pack_memory_gb=max(_memory(spec, study) for study in studies(spec)) / 1e9,
        results_gb=sum(_learned(spec, s, classes[s.task]) for s in studies(spec)) / 1e9,
        assumption=rates.basis,
    )


def _memory(spec: Spec, study: Study) -> float:
    backbone = spec.backbone(study.backbone)
    learned = trained(backbone, study.method) * BYTES_PER_WEIGHT
    return 4 * size(backbone).weights + learned * pack_size(spec, study)


def _learned(spec: Spec, study: Study, classes: int) -> int:
    """Bytes of a study's adapters, heads included."""
    backbone = spec.backbone(study.backbone)
    head = (size(backbone).width + 1) * classes
    return 4 * len(spec.finals.seeds) * (trained(backbone, study.method) + head)


def _classes(spec: Spec, task: Task) -> int:
    """How many a task has; of a user's own only its images know."""
    return task.classes or open_source(task, spec.data_root, spec.draw).task.classes

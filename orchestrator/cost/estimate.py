"""Plan -> hours, money, memory and disk: arithmetic on a stated assumption, or on what an earlier
sweep of the same kind measured."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from arc_train.backbones import Backbone, input_size, outline
from arc_train.errors import InputError
from arc_train.methods.counts import trained
from arc_train.tasks.cache import disk
from arc_train.tasks.catalog import catalog
from orchestrator.cost.work import Work, task_sizes, work
from orchestrator.plan import BYTES_PER_WEIGHT, pack_size, studies
from orchestrator.spec import Spec, load, nearest
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result, Study

# The share of a GPU's peak that training is taken to reach.
UTILISATION = 0.4


@dataclass(frozen=True)
class Estimate:
    """What a sweep takes at most on GPUs of one kind.

    hours_longest_study: with as many GPUs as packs, the study that ends last decides.
    money: in the price's currency; None without a price.
    pack_memory_gb: weights, gradients and optimiser state of the largest pack with its backbone;
        activations come on top, and `pack.chunk` is halved where they don't fit.
    cache_gb: decoded images, on every node. results_gb: what finals learned, once.
    """

    gpu: str
    gpu_hours: float
    hours_longest_study: float
    longest_study: str
    money: float | None
    pack_memory_gb: float
    cache_gb: float
    results_gb: float
    assumption: str


@dataclass(frozen=True)
class Rates:
    """Operations per second of one worker. of: methods that were measured; else: any other."""

    of: Mapping[str, float]
    otherwise: float
    device: str
    basis: str


def assumed(gpu: str) -> Rates:
    """A share of the peak of a GPU in gpus.yaml.

    Raises:
        InputError: no such GPU.
    """
    peaks = yaml.safe_load(Path(__file__).with_name("gpus.yaml").read_text())
    if gpu.lower() not in peaks:
        raise InputError(
            f"unknown GPU {gpu!r}{nearest(gpu.lower(), peaks)}; known: {', '.join(peaks)}"
        )
    peak = peaks[gpu.lower()]
    return Rates(
        {},
        peak * 1e12 * UTILISATION,
        gpu.lower(),
        f"assumed: {UTILISATION:.0%} of {peak:g} TFLOP/s, the {gpu.upper()}'s dense bfloat16 "
        "peak; not measured",
    )


def measured(path: str) -> Rates:
    """What a worker reached in a sweep's folder, method by method, while it trained.

    Raises:
        InputError: it is no sweep's folder, or has no trial that was trained.
    """
    folder = SweepFolder(path)
    spec = load(folder.resolved_spec())
    sizes, known = task_sizes(spec), set(studies(spec))
    done: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    devices: Counter[str] = Counter()
    for result in folder.results().values():
        study = result.study
        if study in known and result.seconds and result.epochs_run:
            done[study.method] += operations(spec, study, _passed(spec, result, sizes[study.task]))
            seconds[study.method] += result.seconds
            devices[str(result.device)] += 1
    if not done:
        raise InputError(f"--measured {path}: no trial has been trained there yet")
    return Rates(
        {method: done[method] / seconds[method] for method in done},
        sum(done.values()) / sum(seconds.values()),
        devices.most_common(1)[0][0],
        f"measured in {path} on {', '.join(devices)}: {devices.total()} trials, "
        f"{sum(seconds.values()) / 3600:.2f} hours of training; starts and loading come on top",
    )


def _passed(spec: Spec, result: Result, sizes: tuple[int, int, int]) -> Work:
    """Images that went through one finished trial."""
    train, val, _ = sizes
    if result.kind == "final" and spec.protocol.final_on == "train+val":
        train += val
    validated = sum(row.val_accuracy is not None for row in result.curve) * val
    return Work(1, result.epochs_run, result.epochs_run * train, validated, 0)


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
        rate = 3600 * rates.of.get(study.method, rates.otherwise)
        hours = [[operations(spec, study, pack) / rate for pack in packs] for packs in stages]
        total += sum(map(sum, hours))
        critical[study] = sum(max(packs) for packs in hours if packs)
    longest = max(critical, key=lambda study: critical[study])
    return Estimate(
        gpu=rates.device,
        gpu_hours=total,
        hours_longest_study=critical[longest],
        longest_study=str(longest),
        money=None if price is None else total * price,
        pack_memory_gb=max(_memory(spec, study) for study in studies(spec)) / 1e9,
        cache_gb=_cache(spec, sizes) / 1e9,
        results_gb=sum(_learned(spec, study) for study in studies(spec)) / 1e9,
        assumption=f"{rates.basis}; forward 1, backward 1, or 2 where most weights are trained, "
        "0 where only the head is",
    )


@dataclass(frozen=True)
class Size:
    """A backbone in numbers.

    side: of its images, in pixels. flop: of one image's way through it; a multiply-add is two.
    """

    side: int
    width: int
    weights: int
    flop: int


@cache
def size(backbone: Backbone) -> Size:
    """Count, on the meta device: nothing is computed.

    Raises:
        InputError: the model can't be made with these args.
    """
    model: Any = outline(backbone)
    side = input_size(model)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    weights = sum(weight.numel() for weight in model.parameters())
    return Size(side, model.num_features, weights, counter.get_total_flops())


def operations(spec: Spec, study: Study, pack: Work) -> float:
    """Floating-point operations of a pack; a multiply-add is two."""
    backbone = spec.backbone(study.backbone)
    learned = trained(backbone, study.method)
    # Backward through the activations costs as much as forward, and through the weights again.
    passes = 1 if not learned else 3 if learned > size(backbone).weights / 2 else 2
    return size(backbone).flop * (passes * pack.trained + pack.validated + pack.tested)


def _memory(spec: Spec, study: Study) -> float:
    backbone = spec.backbone(study.backbone)
    learned = trained(backbone, study.method) * BYTES_PER_WEIGHT
    return 4 * size(backbone).weights + learned * pack_size(spec, study)


def _cache(spec: Spec, images: Mapping[str, tuple[int, int, int]]) -> int:
    sides = {size(entry.backbone()).side for entry in spec.backbones}
    return sum(disk(catalog()[t], sum(images[t]), side) for t in spec.tasks for side in sides)


def _learned(spec: Spec, study: Study) -> int:
    """Bytes of a study's adapters, heads included."""
    backbone = spec.backbone(study.backbone)
    head = (size(backbone).width + 1) * catalog()[study.task].classes
    return 4 * len(spec.finals.seeds) * (trained(backbone, study.method) + head)

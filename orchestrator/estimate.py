"""Plan -> GPU-hours, money, memory and disk: arithmetic on stated assumptions, nothing measured."""

import math
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
from orchestrator.plan import BYTES_PER_WEIGHT, Study, Work, pack_size, studies, work
from orchestrator.spec import Spec, nearest

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


def estimate(
    spec: Spec, sizes: Mapping[str, tuple[int, int, int]], gpu: str, price: float | None = None
) -> Estimate:
    """Estimate before anything runs.

    sizes: task -> images of (train, val, test). gpu: a name in gpus.yaml. price: of one GPU-hour.

    Raises:
        InputError: no such GPU, or a price that is none.
    """
    peaks = yaml.safe_load(Path(__file__).with_name("gpus.yaml").read_text())
    if gpu.lower() not in peaks:
        raise InputError(
            f"unknown GPU {gpu!r}{nearest(gpu.lower(), peaks)}; known: {', '.join(peaks)}"
        )
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise InputError(f"--price must be the price of one GPU-hour, found {price:g}")
    peak = peaks[gpu.lower()]
    rate = peak * 1e12 * UTILISATION * 3600
    total, critical = 0.0, {}
    for study in studies(spec):
        stages = work(spec, study, sizes[study.task])
        hours = [[_flop(spec, study, pack) / rate for pack in packs] for packs in stages]
        total += sum(map(sum, hours))
        critical[study] = sum(max(packs) for packs in hours if packs)
    longest = max(critical, key=lambda study: critical[study])
    return Estimate(
        gpu=gpu.lower(),
        gpu_hours=total,
        hours_longest_study=critical[longest],
        longest_study=str(longest),
        money=None if price is None else total * price,
        pack_memory_gb=max(_memory(spec, study) for study in studies(spec)) / 1e9,
        cache_gb=_cache(spec, sizes) / 1e9,
        results_gb=sum(_learned(spec, study) for study in studies(spec)) / 1e9,
        assumption=f"{UTILISATION:.0%} of {peak:g} TFLOP/s, the {gpu.upper()}'s dense bfloat16 "
        "peak; forward 1, backward 1, or 2 where most weights are trained, 0 where only the head "
        "is; not measured",
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


def _flop(spec: Spec, study: Study, pack: Work) -> float:
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

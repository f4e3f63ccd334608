"""How long a worker takes for a pack: by timings of one card, or by what an earlier sweep took."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from arc_train.errors import InputError
from arc_train.methods import METHODS, Method
from orchestrator import contents
from orchestrator.cost.operations import operations, size
from orchestrator.cost.work import Stretch, Work, task_sizes
from orchestrator.plan import studies
from orchestrator.spec import Spec, nearest
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result, Study


@dataclass(frozen=True)
class Rates:
    """The speed of one worker.

    seconds: what it takes for a pack of a study. device: what it computes on. basis: what the
    figures rest on, in words.
    """

    seconds: Callable[[Spec, Study, Work], float]
    device: str
    basis: str


@dataclass(frozen=True)
class Timings:
    """What was timed on one card (timings.yaml, which says how and of what).

    trial_step: trials alive -> ms that a step of arc takes for each of them, at `batch` images.
    forward: 10^9 operations of an image's way through the backbone. multiples: method -> of arc's
    time. swin: the same for an operation of a Swin. evaluated: images and trials a second.
    arithmetic: the part of a step that grows as the card's peak falls; the rest grows as its
    memory's bandwidth falls.
    """

    card: str
    batch: int
    trial_step: Mapping[int, float]
    forward: float
    multiples: Mapping[str, float]
    swin: float
    evaluated: float
    arithmetic: float

    def per_image(self, trials: float) -> float:
        """Seconds that arc trains on one image of one trial, with so many trials alive.

        Between the counts that were timed, a step has a fixed part and one for each trial. Outside
        of them a trial's part is that of the nearest count.
        """
        counts = sorted(self.trial_step)
        within = min(max(trials, counts[0]), counts[-1])
        step = np.interp(within, counts, [count * self.trial_step[count] for count in counts])
        return float(step) / within / 1e3 / self.batch

    def multiple(self, name: str, method: Method) -> float:
        """Of arc's time; a method that wasn't timed counts as the one that trains as much."""
        like = {"head": "linear", "last block": "partial", "blocks": "arc"}[method.trains]
        if method.in_place and method.trains == "blocks":
            like = "full"
        return self.multiples.get(name, self.multiples[like])


def assumed(gpu: str) -> Rates:
    """Those of a GPU in gpus.yaml, from the timings of one.

    Raises:
        InputError: no such GPU.
    """
    cards, name = _data("gpus.yaml"), gpu.lower()
    if name not in cards:
        raise InputError(f"unknown GPU {gpu!r}{nearest(name, cards)}; known: {', '.join(cards)}")
    timings = Timings(**_data("timings.yaml"))
    card, timed = cards[name], cards[timings.card]
    slower: float = timings.arithmetic * timed["tflops"] / card["tflops"]
    slower += (1 - timings.arithmetic) * timed["bandwidth"] / card["bandwidth"]

    def seconds(spec: Spec, study: Study, pack: Work) -> float:
        return slower * _seconds(timings, spec, study, pack)

    return Rates(seconds, name, _basis(timings, name, slower))


def _seconds(timings: Timings, spec: Spec, study: Study, pack: Work) -> float:
    """Of a pack on the card that was timed."""
    method, model = METHODS[study.method], size(spec.backbone(study.backbone))
    most = 1 if method.in_place else spec.pack.chunk or pack.trials
    batches = spec.training.batch_size / timings.batch
    training = timings.multiple(study.method, method) * sum(
        part.alive * part.epochs * pack.images * timings.per_image(min(part.alive, most) * batches)
        for part in pack.stretches
    )
    forward = pack.validated + pack.tested
    if method.trains != "blocks":  # what lies below comes from a pass of its own
        forward += _below(spec, study, pack)
    scale = model.flop / (1e9 * timings.forward) * (timings.swin if model.swin else 1)
    return scale * (training + forward / timings.evaluated)


def _below(spec: Spec, study: Study, pack: Work) -> int:
    """Images that pass through the frozen layers to train a method that lies above them."""
    if spec.catalog[study.task].augment == "none":  # the same in every epoch: kept
        return pack.images
    if pack.shared:
        return pack.images * sum(part.epochs for part in pack.stretches)
    return pack.trained


def _basis(timings: Timings, gpu: str, slower: float) -> str:
    counts, times = (
        ", ".join(map(str, part)) for part in zip(*timings.trial_step.items(), strict=True)
    )
    basis = (
        f"assumed from timings: {times} ms a trial-step of arc on ViT-B/16 with {counts} trials "
        f"alive on one {timings.card.upper()}, most other methods as in the version before, "
        "backbones by their operations"
    )
    if gpu != timings.card:
        basis += f"; {gpu.upper()}: {slower:.1f} times as long, by bfloat16 peak and bandwidth"
    return f"{basis}; starts and loading come on top"


@cache
def _data(name: str) -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(Path(__file__).with_name(name).read_text())
    return table


def measured(path: str) -> Rates:
    """What a worker reached in a sweep's folder, method by method, while it trained.

    Raises:
        InputError: it is no sweep's folder, or has no trial that was trained.
    """
    folder = SweepFolder(path)
    found = contents.read(folder)
    spec = found.spec
    if spec is None:
        raise InputError(f"--measured {path}: its spec.yaml is missing or damaged")
    sizes, known = task_sizes(spec), set(studies(spec))
    done: dict[str, float] = defaultdict(float)
    took: dict[str, float] = defaultdict(float)
    devices: Counter[str] = Counter()
    for result in found.results.values():
        study = result.study
        if study in known and result.seconds and result.epochs_run:
            done[study.method] += operations(spec, study, _passed(spec, result, sizes[study.task]))
            took[study.method] += result.seconds
            devices[str(result.device)] += 1
    if not done:
        raise InputError(f"--measured {path}: no trial has been trained there yet")
    usual = sum(took.values()) / sum(done.values())
    cost = {method: took[method] / done[method] for method in done}
    return Rates(
        lambda spec, study, pack: operations(spec, study, pack) * cost.get(study.method, usual),
        devices.most_common(1)[0][0],
        f"measured in {path} on {', '.join(devices)}: {devices.total()} trials, "
        f"{sum(took.values()) / 3600:.2f} hours of training; starts and loading come on top; "
        "forward 1, backward 1, or 2 where most weights are trained, 0 where only the head is",
    )


def _passed(spec: Spec, result: Result, sizes: tuple[int, int, int]) -> Work:
    """Images that went through one finished trial."""
    train, val, _ = sizes
    if result.kind == "final" and spec.protocol.final_on == "train+val":
        train += val
    validated = sum(row.val_accuracy is not None for row in result.curve) * val
    return Work((Stretch(1, result.epochs_run),), train, validated, 0)

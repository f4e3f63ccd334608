"""The measurements of gpu.py: each builds its pack, measures it, and returns a row of figures."""

import contextlib
import multiprocessing
import queue
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import timm
import torch
from measure import CLASSES, matmul_rate, members, seconds
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from arc_train import backbones
from arc_train.execution import Execution, Stepper
from arc_train.feed import Images
from arc_train.memory import CPU_PASS
from arc_train.pack import Member, Pack
from arc_train.precision import compute_type, set_precision
from arc_train.tasks.views import Split
from arc_train.training import Halving, PackRun, Recipe

Row = dict[str, Any]
FEW = 3
# Relative to float32's and bfloat16's rounding over a few steps; the rows give the figures.
EQUAL = {"float32": 1e-4, "bfloat16": 3e-2}
TINY_VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
TINY_SWIN = {
    "img_size": 16,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 12,
    "depths": (2, 1),
    "num_heads": (2, 2),
}


@dataclass(frozen=True)
class Scene:
    """What is measured on what.

    models: timm's name and options by the names used here. trials, executions: of the packs whose
    steps are timed. steps: of each of the rounds whose median counts. precisions: in which packs
    are compared with trials alone. train, test: images of the study.
    """

    device: str
    models: Mapping[str, tuple[str, Mapping[str, Any]]]
    trials: tuple[int, ...] = (16, 3, 1, 8, 2)
    executions: tuple[Execution, ...] = ("eager", "graph", "compiled")
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    batch: int = 32
    steps: int = 5
    rounds: int = 3
    epochs: int = 10
    train: int = 800
    test: int = 2000
    classes: int = CLASSES


FULL = Scene(
    "cuda",
    {
        "small vit": ("vit_small_patch16_224", {"depth": 3}),
        "small swin": ("swin_tiny_patch4_window7_224", {"depths": (2, 2), "num_heads": (3, 6)}),
        "vit_base": ("vit_base_patch16_224", {}),
        "vit_large": ("vit_large_patch16_224", {}),
        "vit_huge": ("vit_huge_patch14_224", {}),
        "swin_base": ("swin_base_patch4_window7_224", {}),
    },
)
TOY = Scene(
    "cpu",
    {
        name: (model, TINY_SWIN if "swin" in name else TINY_VIT)
        for name, (model, _) in FULL.models.items()
    },
    trials=(2, 1),
    executions=("eager", "graph"),
    precisions=("float32",),
    batch=4,
    steps=1,
    rounds=1,
    epochs=2,
    train=12,
    test=8,
)


def backbone(scene: Scene, model: str, precision: str | None = None) -> nn.Module:
    """A frozen backbone with random weights on the device, in the device's compute type."""
    return _built(scene.device, model, precision, scene is TOY)


@cache
def _built(device: str, model: str, precision: str | None, toy: bool) -> nn.Module:
    name, options = (TOY if toy else FULL).models[model]
    torch.manual_seed(0)
    with torch.device(device):
        made = timm.create_model(name, **options).eval().requires_grad_(False)
    kind = compute_type(torch.device(device)) if precision is None else getattr(torch, precision)
    return set_precision(made, kind)


def describe(scene: Scene) -> Row:
    """The device, its software, and its rate of matrix products."""
    kind = torch.device(scene.device)
    on_gpu = kind.type == "cuda"
    return {
        "name": torch.cuda.get_device_name() if on_gpu else "CPU",
        "gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        if on_gpu
        else None,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "tflops": round(_rate(scene.device) / 1e12, 2),
    }


@cache
def _rate(device: str) -> float:
    return matmul_rate(torch.device(device))


def _batch(scene: Scene, model: nn.Module, images: int) -> tuple[Tensor, Tensor]:
    side = backbones.input_size(model)
    torch.manual_seed(1)
    return (
        torch.randn(images, 3, side, side, device=scene.device),
        torch.randint(scene.classes, (images,), device=scene.device),
    )


class Training:
    """A pack that trains on one batch again and again."""

    def __init__(
        self,
        scene: Scene,
        model: nn.Module,
        method: str,
        trials: list[Member],
        execution: Execution | None,
    ) -> None:
        self.pack = Pack(model, method, scene.classes, trials, chunk=len(trials))
        self.frozen = self.pack.method.trains != "blocks"
        images, self.labels = _batch(scene, model, scene.batch)
        with torch.no_grad():
            self.inputs = self.pack.model.eval().frozen(images) if self.frozen else images
        self.stepper = Stepper(self.pack, self.frozen, execution)

    def steps(self, count: int) -> Tensor:
        """Losses [steps, T] of some steps."""
        schedule = self.pack.schedule([1.0] * count)
        return torch.stack(
            [
                self.stepper(self.inputs, self.labels, clock, seeds)
                for clock, seeds in zip(schedule.clocks, schedule.seeds, strict=True)
            ]
        )

    def flops(self) -> int:
        """Of a step that runs eagerly, counted by torch."""
        schedule = self.pack.schedule([1.0])
        batch = (self.inputs, self.labels, schedule.clocks[0], schedule.seeds[0])
        with FlopCounterMode(display=False) as counter:
            self.pack.train_step(*batch, self.frozen)
        return counter.get_total_flops()


def train(
    scene: Scene,
    model: str,
    method: str,
    trials: int,
    execution: Execution | None,
    **config: float,
) -> Row:
    """A pack's training step: time, share of the product's rate, launches, memory."""
    built = backbone(scene, model)
    device = torch.device(scene.device)
    run = Training(scene, built, method, members(method, trials, **config), execution)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    flops = run.flops()
    first = seconds(lambda: run.steps(2), device)  # checks, compiles, captures
    times = [seconds(lambda: run.steps(scene.steps), device) for _ in range(scene.rounds)]
    step = statistics.median(times) / scene.steps
    row = {
        "ms": round(1e3 * step, 2),
        "ms_trial": round(1e3 * step / trials, 3),
        "share": round(flops / step / _rate(scene.device), 3),
        "gflop_image_trial": round(flops / 1e9 / trials / scene.batch, 2),
        "used": run.stepper.used,
        "problem": run.stepper.problem,
        "first": round(first, 2),
        "chunk": run.pack.chunk,
    }
    if device.type == "cuda":
        row["gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        row |= _launches(run)
    return row


def _launches(run: Training) -> Row:
    """Kernels of a step, and the host's calls that launch them (a graph needs one)."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run.steps(1)
        torch.cuda.synchronize()
    events = profiled.events()
    kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    return {
        "kernels": sum(not e.name.startswith(("Mem", "mem")) for e in kernels),
        "launches": sum("Launch" in e.name and e.name.startswith("cu") for e in events),
    }


def compare(scene: Scene, model: str, precision: str, method: str) -> Row:
    """The largest differences between trials in a pack and alone, of losses and of weights."""
    built = backbone(scene, model, precision)
    dropout = {"dropout": 0.1} if method in ("arc", "arc_att", "mlp") else {}
    trials = members(method, FEW, **dropout)
    together = Training(scene, built, method, trials, "eager")
    losses = together.steps(FEW)
    apart = {"losses": 0.0, "weights": 0.0}
    for i, member in enumerate(together.pack.members):
        alone = Training(scene, built, method, [member], "eager")
        own = alone.steps(FEW)[:, 0]
        expected, found = alone.pack.state(0), together.pack.state(i)
        worst = max(float((found[name] - expected[name]).abs().max()) for name in expected)
        apart["losses"] = max(apart["losses"], float((losses[:, i] - own).abs().max()))
        apart["weights"] = max(apart["weights"], worst)
    equal = apart["losses"] < EQUAL[precision]
    return {name: f"{value:.1e}" for name, value in apart.items()} | {"equal": equal}


def evaluate(scene: Scene, trials: int) -> Row:
    """A pass of evaluation: ARC on the base ViT."""
    built = backbone(scene, "vit_base")
    pack = Pack(built, "arc", scene.classes, members("arc", trials), chunk=trials)
    count = max(1, min(256, (CPU_PASS if scene is FULL else 8) // trials))
    images, _ = _batch(scene, built, count)
    times = [
        seconds(lambda: pack.logits(images), torch.device(scene.device))
        for _ in range(scene.rounds + 1)
    ]
    return {"images": count, "images_trials_a_second": round(trials * count / min(times))}


def in_processes(scene: Scene, processes: int) -> Row:
    """So many packs of a few trials at the same time, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=_train_beside_others, args=(scene is TOY, barrier, results))
        for _ in range(processes)
    ]
    try:
        for process in started:
            process.start()
        rows: list[Row] = []
        while len(rows) < processes:  # as long as it takes: the part has its share of the time
            with contextlib.suppress(queue.Empty):
                rows.append(results.get(timeout=1))
            if codes := [process.exitcode for process in started if process.exitcode]:
                raise RuntimeError(f"a process ended with code {codes[0]}")
    finally:
        for process in started:
            process.terminate()
            process.join()
    took = max(row["seconds"] for row in rows)
    return {
        "trials": FEW,
        "used": rows[0]["used"],
        "seconds": round(took, 3),
        "trial_steps_a_second": round(sum(row["steps"] for row in rows) * FEW / took, 1),
    }


def _train_beside_others(toy: bool, barrier: Any, results: Any) -> None:
    scene = TOY if toy else FULL
    trials = members("arc", FEW, dropout=0.1)
    run = Training(scene, backbone(scene, "vit_base"), "arc", trials, None)
    run.steps(3)
    count = 100 if scene is FULL else 2
    barrier.wait()
    took = seconds(lambda: run.steps(count), torch.device(scene.device))
    results.put({"seconds": took, "steps": count, "used": run.stepper.used})


def _split(scene: Scene, images: int) -> Split:
    draws = torch.Generator().manual_seed(images)
    side = backbones.input_size(backbone(scene, "vit_base"))
    pixels = torch.randint(256, (images, side, side, 3), generator=draws, dtype=torch.uint8)
    return Split(pixels, torch.randint(scene.classes, (images,), generator=draws), side)


def _pack_run(scene: Scene, trials: list[Member], orders: list[int], **options: Any) -> PackRun:
    half = (0.5, 0.5, 0.5)
    return PackRun(
        backbone(scene, "vit_base"),
        "arc",
        scene.classes,
        trials,
        orders,
        Recipe(scene.epochs, scene.batch, warmup_epochs=1),
        Images(half, half, torch.device(scene.device)),
        **options,
    )


def _finish(run: PackRun) -> Row:
    """Train to the end."""
    begin = time.perf_counter()
    outcomes = []
    while not run.done:
        outcomes += run.run_epoch()
    return {
        "trials": len(outcomes),
        "epochs": [outcome.epochs_run for outcome in outcomes],
        "execution": sorted({outcome.execution for outcome in outcomes}),
        "problem": run._stepper.problem,
        "seconds": round(time.perf_counter() - begin, 2),
    }


def search(scene: Scene, pack: int) -> Row:
    """A pack of a search: half as many trials as the largest pack has, thinned at rungs."""
    count = max(FEW, max(scene.trials) // 2)
    trials = [replace(m, seed=m.seed + 100 * pack) for m in members("arc", count, dropout=0.1)]
    val = _split(scene, scene.train // 4)
    halving = Halving(start=1, eta=3)
    train_split = _split(scene, scene.train)
    return _finish(
        _pack_run(scene, trials, [pack] * count, train=train_split, val=val, halving=halving)
    )


def finals(scene: Scene) -> Row:
    """Three seeds of one configuration on all training images, each with its own order, tested."""
    trials = [replace(m, config={**m.config, "rank": 50}) for m in members("arc", FEW, dropout=0.1)]
    images = scene.train + scene.train // 4
    run = _pack_run(scene, trials, list(range(FEW)), train=_split(scene, images), val=None)
    row = _finish(run)
    test = _split(scene, scene.test)
    begin = time.perf_counter()
    run.predict(test)
    return {**row, "test_images": scene.test, "test_seconds": round(time.perf_counter() - begin, 2)}

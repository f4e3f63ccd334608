"""What packs do on a GPU: whether they are right, how fast they are, what memory they take.

Made to be run by whoever has a card, in under seven minutes. Each figure is printed and written to
a JSON file as soon as it is measured; what fails or runs out of its share of the time is recorded
with its error, and the rest goes on. Weights and images are random.

    python benchmarks/gpu.py                          # all parts, into gpu.json
    python benchmarks/gpu.py --parts device steps
    python benchmarks/gpu.py --toy                    # tiny models on the CPU: does the script run?
"""

import argparse
import contextlib
import gc
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measured_packs as packs
import torch
from measured_packs import FULL, TOY, Scene

from arc_train.execution import FEW
from arc_train.methods import METHODS

# A head in closed form takes no steps.
TRAINED = [name for name, method in METHODS.items() if not method.solve]
Row = dict[str, Any]
# What a measurement is called, and what makes it.
Measurement = tuple[Row, Callable[[], Row]]


@dataclass(frozen=True)
class Part:
    """Some measurements and their share of the time, in seconds of the default budget."""

    measurements: Callable[[Scene], Iterator[Measurement]]
    share: float


def device(scene: Scene) -> Iterator[Measurement]:
    """The card and the rate of its matrix products, beside which all others stand."""
    yield {}, partial(packs.describe, scene)


def captured(scene: Scene) -> Iterator[Measurement]:
    """All but the most trials with blocks that are compiled and captured: no worker does so yet."""
    for trials in sorted(scene.trials)[:-1]:
        labels = {"method": "arc", "trials": trials, "execution": "compiled graph"}
        yield labels, partial(packs.train, scene, "vit_base", dropout=0.1, **labels)


def equality(scene: Scene) -> Iterator[Measurement]:
    """Trials of a pack against the same trials alone: every method that trains, ViT and Swin, both
    types."""
    for precision in scene.precisions:
        for model in ("small vit", "small swin"):
            for method in TRAINED:
                labels = {"model": model, "precision": precision, "method": method}
                yield labels, partial(packs.compare, scene, **labels)


def steps(scene: Scene) -> Iterator[Measurement]:
    """ARC on the base ViT, by the number of trials and by how steps run.

    Few trials aren't compiled, as in a worker: that takes 20 s for each number of them.
    """
    for execution in scene.executions:
        for trials in scene.trials:
            if execution == "compiled" and trials <= FEW:
                continue
            labels = {"method": "arc", "trials": trials, "execution": execution}
            yield labels, partial(packs.train, scene, "vit_base", dropout=0.1, **labels)


def methods(scene: Scene) -> Iterator[Measurement]:
    """One line for each other method, eagerly."""
    most = max(scene.trials)
    of = dict.fromkeys(("ssf", "lora", "adapter", "vpt_deep", "bias", "repadapter"), most)
    for method, trials in {**of, "partial": most // 2, "full": max(1, most // 8)}.items():
        labels = {"method": method, "trials": trials, "execution": "eager"}
        yield labels, partial(packs.train, scene, "vit_base", **labels)


def models(scene: Scene) -> Iterator[Measurement]:
    """Other backbones with few trials, run as a worker would, and more of them eagerly."""
    for model in ("vit_large", "vit_huge", "swin_base"):
        for trials, execution in ((3, None), (8, "eager")):
            labels = {"model": model, "trials": trials, "execution": execution}
            yield labels, partial(packs.train, scene, method="arc", dropout=0.1, **labels)


def evaluation(scene: Scene) -> Iterator[Measurement]:
    """Images times trials a second of an evaluation of ARC."""
    for trials in (max(scene.trials), 1):
        yield {"trials": trials}, partial(packs.evaluate, scene, trials)


def linear(scene: Scene) -> Iterator[Measurement]:
    """One head and forty of them on cached features."""
    for trials in (1, 40):
        labels = {"method": "linear", "trials": trials}
        yield labels, partial(packs.train, scene, "vit_base", execution=None, **labels)


def side_by_side(scene: Scene) -> Iterator[Measurement]:
    """Two packs of a few trials in two processes on one card, and one after the other."""
    for processes in (1, 2):
        yield {"processes": processes}, partial(packs.in_processes, scene, processes)


def study(scene: Scene) -> Iterator[Measurement]:
    """A study from its search to its finals: two packs with halving, three seeds of a final."""
    for pack in range(2):
        yield {"pack": f"search {pack + 1}"}, partial(packs.search, scene, pack)
    yield {"pack": "finals"}, partial(packs.finals, scene)


PARTS = {
    "device": Part(device, 10),
    "steps": Part(steps, 85),
    "equality": Part(equality, 50),
    "methods": Part(methods, 45),
    "evaluation": Part(evaluation, 5),
    "linear": Part(linear, 5),
    "study": Part(study, 70),
    "side_by_side": Part(side_by_side, 35),
    "models": Part(models, 50),
    "captured": Part(captured, 35),
}


@contextlib.contextmanager
def limit(left: float) -> Iterator[None]:
    """Interrupt what takes longer than some seconds.

    Raises:
        TimeoutError: the time is up.
    """

    def interrupt(*_: object) -> None:
        raise TimeoutError("no time is left of this part's share")

    before = signal.signal(signal.SIGALRM, interrupt)
    # Again each second: what a signal's handler raises in code that swallows exceptions is lost.
    signal.setitimer(signal.ITIMER_REAL, left, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(part: Part, scene: Scene, deadline: float) -> Iterator[Row]:
    """A row for each measurement, with an `error` where it has none."""
    measurements = part.measurements(scene)
    while True:
        labels: Row = {}
        begin = time.monotonic()
        if begin >= deadline:
            if left := sum(1 for _ in measurements):
                yield {"error": f"no time is left of this part's share for {left} measurements"}
            return
        try:
            labels, make = next(measurements)
            with limit(deadline - begin):
                row = make()
        except StopIteration:
            return
        except Exception as error:  # whatever a driver or a compiler raises
            row = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        yield {**labels, **row, "took": round(time.monotonic() - begin, 2)}
        _free()


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the JSON file")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--budget", type=float, default=390.0, help="seconds for all parts")
    parser.add_argument("--toy", action="store_true", help="tiny models on the CPU")
    options = parser.parse_args(arguments)
    if not options.toy and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --toy runs the script on a CPU")
    scene = TOY if options.toy else FULL
    if options.toy:
        torch.set_num_threads(1)
    end = time.monotonic() + options.budget
    report: dict[str, Any] = {"scene": asdict(scene), "budget": options.budget, "parts": {}}
    shares = [PARTS[name].share for name in options.parts]
    for place, name in enumerate(options.parts):
        begin = time.monotonic()
        # What earlier parts left of their shares goes to the later ones.
        deadline = begin + (end - begin) * shares[place] / sum(shares[place:])
        rows = report["parts"][name] = []
        for row in run(PARTS[name], scene, deadline):
            rows.append(row)
            print(f"{name:12}", *(f"{key}={value}" for key, value in row.items()), flush=True)
            options.out.write_text(json.dumps(report, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

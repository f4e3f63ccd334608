"""By what is the winner among finished trials best chosen? Judged by test accuracy.

    python benchmarks/selection.py FOLDER...   # of curves, see record_curves.py

Trials are drawn as in stopping.py and none is stopped: all of them are finished when the winner is
chosen. Each way's test accuracy stands beside that of the rule of sweeps (accuracy, then loss), and
beside the best that any choice could have.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arc_train.hyperparameters.gaussian_process import fit_posterior
from arc_train.hyperparameters.recommended import space_of
from arc_train.hyperparameters.searchers import FLOOR
from arc_train.hyperparameters.space import features
from orchestrator.search.curves import Curves, Finished
from orchestrator.search.stopping import DRAWS, PACK, drawn, interval

Array = NDArray[np.float64]


def over_last(finished: Finished, percent: float) -> Array:
    """Mean accuracy [T] over so many percent of the epochs, the last ones."""
    count = max(1, round(percent * finished.epochs / 100))
    return finished.accuracy[:, -count:].mean(axis=1)


def posterior_mean(curves: Curves, finished: Finished, trials: list[int]) -> Array:
    """What a Gaussian process over the study's trials expects of each [T]."""
    space = space_of(curves.study.method, {})
    at = np.array([features(space, curves.configs[trial]) for trial in trials])
    accuracy = finished.accuracy[trials, -1]
    observed = accuracy.clip(min=accuracy.max() - FLOOR)
    centred = observed - observed.mean()
    return fit_posterior(at, centred, np.zeros(len(trials), int), at).mean


def scores(curves: Curves, finished: Finished, trials: list[int]) -> dict[str, Array]:
    """What each way ranks some trials by: the highest wins; ties go to the rule of sweeps."""
    accuracy, loss = finished.accuracy[trials, -1], finished.loss[trials, -1]
    expected = posterior_mean(curves, finished, trials)
    return {
        "accuracy, then loss": accuracy,
        "loss": -loss,
        "accuracy, mean of last 5 %": over_last(finished, 5)[trials],
        "accuracy, mean of last 10 %": over_last(finished, 10)[trials],
        "accuracy, mean of last 20 %": over_last(finished, 20)[trials],
        "posterior mean": expected,
        "posterior mean and accuracy": (expected - expected.mean()) + (accuracy - accuracy.mean()),
        "test (no rule can)": finished.test[trials],
    }


def chosen(score: Array, finished: Finished, trials: list[int]) -> float:
    """Test accuracy of the winner by a score."""
    best = [trial for trial, value in zip(trials, score, strict=True) if value == score.max()]
    return float(finished.test[finished.chosen(best)])


def main() -> None:
    """Print what each way gains on the rule of sweeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    paths = sorted(path for folder in options.folders for path in folder.glob("*.npz"))
    gains: dict[str, list[float]] = {}
    tasks = []
    for path in paths:
        curves = Curves.read(path)
        finished = Finished.of(curves)
        tasks.append(curves.study.task)
        rows: list[dict[str, float]] = []
        for trials, _ in drawn(len(finished.test)):
            ways = scores(curves, finished, trials)
            found = {name: chosen(score, finished, trials) for name, score in ways.items()}
            rows.append({name: test - found["accuracy, then loss"] for name, test in found.items()})
        for name in rows[0]:
            gains.setdefault(name, []).append(float(np.mean([row[name] for row in rows])))
    print(
        f"{len(paths)} studies of {len(set(tasks))} tasks, {DRAWS} draws of {PACK} trials of each"
    )
    print(f"{'':32}{'points gained, 95 %':>22}{'least':>8}{'most':>8}")
    for name, values in gains.items():
        low, high = interval(np.array(values), tasks)
        mean = np.mean(values)
        print(f"{name:32}{mean:7.2f} [{low:5.2f}, {high:5.2f}]{min(values):8.2f}{max(values):8.2f}")


if __name__ == "__main__":
    main()

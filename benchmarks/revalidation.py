"""What is `selection.revalidate` worth: the best trials again, the best mean over seeds wins?

    python benchmarks/revalidation.py FOLDER   # of curves, with seed-1, seed-2 and seed-3 in it

Of eight trials drawn from a study and trained under one seed, the first three by validation are
taken, and their means over that seed and two others choose. The judge is the chosen configuration's
test accuracy under the fourth seed, which no way has seen, beside that of the winner under the one
seed. All roles of the four seeds are tried. Beside it: what sixteen trials gain, under one seed.
"""

import argparse
from pathlib import Path

import numpy as np

from orchestrator.search.curves import Curves, Finished
from orchestrator.search.stopping import DRAWS, PACK, drawn, interval

SEEDS, BEST = 4, 3


def gains(seeds: list[Finished]) -> tuple[float, float]:
    """Points of test accuracy gained by revalidation, and by twice the trials."""
    accuracy = np.array([of.accuracy[:, -1] for of in seeds])
    loss = np.array([of.loss[:, -1] for of in seeds])
    rows = []
    for judge in range(SEEDS):
        known = [seed for seed in range(SEEDS) if seed != judge]
        mean, mean_loss = accuracy[known].mean(axis=0), loss[known].mean(axis=0)
        test = seeds[judge].test
        for searched in (seeds[seed] for seed in known):
            for one, other in drawn(len(test)):
                best = sorted(one, key=searched.rank)[:BEST]
                again = min(best, key=lambda trial: (-mean[trial], mean_loss[trial]))
                more = searched.chosen(one + other)
                rows.append((test[again] - test[best[0]], test[more] - test[best[0]]))
    again, more = np.mean(rows, axis=0).tolist()
    return again, more


def main() -> None:
    """Print both gains by study, and their means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    found: list[tuple[float, float]] = []
    tasks = []
    for path in sorted(options.folder.glob("*.npz")):
        places = [path, *(path.parent / f"seed-{n}" / path.name for n in range(1, SEEDS))]
        if not all(place.exists() for place in places):
            continue
        curves = [Curves.read(place) for place in places]
        found.append(gains([Finished.of(each) for each in curves]))
        tasks.append(curves[0].study.task)
        print(f"{curves[0].study!s:48}{found[-1][0]:7.2f}{found[-1][1]:7.2f}")
    print(f"{len(found)} studies, {len(set(tasks))} tasks, {DRAWS} draws of {PACK} trials of each")
    for name, values in zip(("revalidated", "twice the trials"), np.array(found).T, strict=True):
        low, high = interval(values, tasks)
        print(f"{name:48}{values.mean():7.2f} [{low:5.2f}, {high:5.2f}]")


if __name__ == "__main__":
    main()

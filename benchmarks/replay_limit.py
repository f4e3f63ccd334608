"""How near the best of a grid could any search come with a quarter of its trials?

    python benchmarks/replay_limit.py TABLE [--trials 4 8 16]

Validation accuracy on 200 images is partly luck, and luck can't be predicted. For each cell of a
table of finished trials an oracle ranks every configuration by what the search's own model expects
of it, given *all other trials of that very cell* and those of the other tasks: more than any
search knows. Then the best of its first trials is compared with the best of all.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import fmean

import numpy as np
from threadpoolctl import threadpool_limits

from orchestrator.replay import Cell, read
from orchestrator.searchers import centred
from orchestrator.space import features
from orchestrator.surrogate import believe

SMALLEST = 4


def main() -> None:
    """Print mean regret by budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("--trials", type=int, nargs="+", default=[4, 8, 16])
    options = parser.parse_args()
    cells = read(options.table)
    searched = [cell for cell in cells if len(cell.trials) > SMALLEST]
    with ProcessPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool:
        ranked = list(pool.map(partial(ranking, cells), searched))
    for budget in (*options.trials, None):
        regrets = [
            cell.best - max(found[: budget or max(1, len(found) // 4)])
            for cell, found in zip(searched, ranked, strict=True)
        ]
        print(f"{budget or 'a quarter'}: {fmean(regrets):.2f} points below the whole grid")


def ranking(cells: list[Cell], cell: Cell) -> list[float]:
    """Validation accuracies of a cell's trials, the most promising first."""
    related = [cell, *(c for c in cells if c.method == cell.method and c.task != cell.task)]
    histories = [each.history() for each in related]
    points = np.array([features(cell.space, trial.config) for h in histories for trial in h])
    values = np.concatenate([centred(history) for history in histories])
    studies = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    own = len(cell.trials)
    expected = []
    for trial in range(own):
        rest = np.arange(len(values)) != trial
        known = values[rest].copy()
        known[: own - 1] -= known[: own - 1].mean()
        belief = believe(points[rest], known, studies[rest], points[trial : trial + 1])
        expected.append(float(belief.mean[0]))
    measured = [tried.accuracy if tried.accuracy is not None else 0.0 for tried in histories[0]]
    return [measured[i] for i in np.argsort(-np.array(expected))]


if __name__ == "__main__":
    main()

"""Do the shares of `arc-sweep importance` hold? On full grids they can be counted.

Of every method of a table of finished trials whose grid has more than 16 configurations, the share
of each hyperparameter is counted on the full grid (variance of its marginal means, of accuracies
standardised by task and averaged over tasks), and estimated from 16 trials a task drawn at random.
"""

import argparse
import random
from collections import defaultdict
from statistics import fmean

import numpy as np

from arc_train.hyperparameters.importance import importance
from arc_train.hyperparameters.searchers import Observation
from arc_train.hyperparameters.space import Value
from orchestrator.search.trial_table import Cell, read

TRIALS = 16


def counted(cells: list[Cell], names: list[str]) -> dict[str, float]:
    """Shares in percent on the full grid."""
    surface: dict[tuple[Value, ...], list[float]] = defaultdict(list)
    for cell in cells:
        found = cell.history()
        worst = min(o.accuracy for o in found if o.accuracy is not None)
        values = np.array([worst if o.accuracy is None else o.accuracy for o in found])
        for observation, value in zip(found, (values - values.mean()) / values.std(), strict=True):
            surface[tuple(observation.config[name] for name in names)].append(value)
    means = {point: fmean(values) for point, values in surface.items()}
    variance = float(np.var(list(means.values())))
    shares = {}
    for place, name in enumerate(names):
        by_value: dict[Value, list[float]] = defaultdict(list)
        for point, mean in means.items():
            by_value[point[place]].append(mean)
        spread = sum(len(some) * fmean(some) ** 2 for some in by_value.values()) / len(means)
        shares[name] = 100 * (spread - fmean(means.values()) ** 2) / variance
    return shares


def drawn(cell: Cell, draws: random.Random) -> list[Observation]:
    """Some of a cell's trials."""
    return draws.sample(cell.history(), min(TRIALS, len(cell.trials)))


def main() -> None:
    """Print counted and estimated shares, and how often the interval covers the counted one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="CSV, as arc-sweep replay reads it")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the 16 trials (3)")
    options = parser.parse_args()
    of_method: dict[str, list[Cell]] = defaultdict(list)
    for cell in read(options.table):
        of_method[cell.method].append(cell)
    errors, covered = [], []
    for method, cells in sorted(of_method.items()):
        space = cells[0].space
        names = [name for name in sorted(space) if space[name].size > 1]
        if len(names) < 2 or min(len(cell.trials) for cell in cells) <= TRIALS:
            continue
        truth = counted(cells, names)
        for seed in range(options.seeds):
            draws = random.Random(seed)
            found = importance(space, [drawn(cell, draws) for cell in cells])
            assert found is not None
            assert found.unseen is not None
            print(f"{method}, {len(cells)} tasks, {found.unseen:.0f} % of unseen tasks:", end="")
            for name in names:
                share = found.alone[name]
                low, high = share.ci95 or (0.0, 100.0)
                print(
                    f"  {name} {share.value:.0f} ({low:.0f}-{high:.0f}; {truth[name]:.0f})", end=""
                )
                if found.unseen > 0:
                    errors.append(abs(share.value - truth[name]))
                    covered.append(low - 0.5 <= truth[name] <= high + 0.5)
            print(flush=True)
    print(
        f"where anything is said of unseen tasks: {len(errors)} shares, mean error "
        f"{fmean(errors):.1f} points, largest {max(errors):.1f}; the 95 % interval covers "
        f"{100 * fmean(covered):.0f} % of them"
    )


if __name__ == "__main__":
    main()

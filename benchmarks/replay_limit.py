"""How near could any search come to the best of a whole grid, on a table of finished trials?

    python benchmarks/replay_limit.py TABLE

Validation accuracy on few images is partly luck, and no search can know luck beforehand. Here an
oracle knows the expected accuracy of every configuration, and tries the best ones first. What it
still leaves is luck: the best of a grid is the luckiest of many that are nearly as good.

Expectation and luck are told apart by twins: trials that differ in weight decay alone, which makes
no difference to expectations in such tables (the mean difference is printed beside its standard
error). Their differences give the deviation of one trial; their means, drawn together by what is
luck in them, the expectations. Whole grids are then drawn anew, many times.

Twins also say what a search's winner is worth without its luck: the accuracy of the winner's twin,
beside that of the twin of the whole grid's best.
"""

import argparse
import json
from collections import defaultdict
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from orchestrator.search.replay import choose, related
from orchestrator.search.selection import Candidate, select
from orchestrator.search.trial_table import Cell, accuracy_of, read

SEARCHES = (("portfolio", 2), ("portfolio", 8), ("random", 1))  # and their rounds
RANDOM_SEEDS = 20
SMALLEST = 4  # trials of a cell beyond which `replay` searches it
GOOD = 8.0  # points below a cell's best: what lies further below wins by no luck
GRIDS = 4000
STEP = 0.5  # accuracies of 200 images come in half points
Pairs = NDArray[np.float64]


def main() -> None:
    """Print regret and what it is worth, by method and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("--trials", type=int, nargs="+", default=[4, 8, 16])
    options = parser.parse_args()
    draws = np.random.default_rng(0)
    found: dict[str, list[list[float]]] = defaultdict(list)
    gaps: list[float] = []
    table = read(options.table)
    searched = [cell for cell in table if len(cell.trials) > SMALLEST]
    for cell in searched:
        pairs = pairs_of(cell)
        gaps += [a - b for a, b in pairs[could_win(pairs)]]
        budgets = [min(trials, pairs.size) for trials in options.trials]
        row = oracle(pairs, [*budgets, pairs.size // 4], draws)
        found[cell.method].append(row)
        found["all"].append(row)
    error = np.std(gaps) / len(gaps) ** 0.5
    print(f"weight decay: {fmean(gaps):+.2f} points on average (standard error {error:.2f})")
    print("points below the best of the whole grid that an oracle leaves, after so many trials;")
    print("luck: deviation of a trial; gain: of its winner's expectation on that of the grid's")
    names = [*map(str, options.trials), "quarter", "luck", "gain"]
    print(f"{'method':16}" + "".join(f"{name:>9}" for name in names))
    for method, rows in found.items():
        means = [fmean(column) for column in zip(*rows, strict=True)]
        print(f"{method:16}" + "".join(f"{mean:9.2f}" for mean in means))
    print("\nafter a quarter of the trials, the winner's twin beside the twin of the grid's best")
    for algorithm, rounds in SEARCHES:
        worth = [trained_again(table, cell, algorithm, rounds) for cell in searched]
        error = np.std(worth) / len(worth) ** 0.5
        print(f"{algorithm}, {rounds} rounds: {fmean(worth):+.2f} (standard error {error:.2f})")


def trained_again(table: list[Cell], cell: Cell, algorithm: str, rounds: int) -> float:
    """What a search's winner has over the grid's, in points, when both are trained again."""
    others, budget = related(table, cell), len(cell.trials) // 4
    seeds = RANDOM_SEEDS if algorithm == "random" else 1
    found = (choose(cell, others, algorithm, budget, seed, rounds) for seed in range(seeds))
    best = select(cell.done)
    assert best is not None
    return fmean(twin(cell, won) - twin(cell, best) for won in found if won)


def twin(cell: Cell, trial: Candidate) -> float:
    """Validation accuracy of the trial that differs in weight decay alone."""
    (other,) = (t for t in cell.trials if key(t) == key(trial) and t.config != trial.config)
    return accuracy_of(other)


def key(trial: Candidate) -> str:
    """A configuration but for its weight decay."""
    return json.dumps({k: v for k, v in trial.config.items() if k != "weight_decay"})


def pairs_of(cell: Cell) -> Pairs:
    """Validation accuracies [N, 2] of the configurations but for weight decay."""
    found: dict[str, list[float]] = defaultdict(list)
    for trial in cell.trials:
        found[key(trial)].append(accuracy_of(trial))
    wrong = [config for config, values in found.items() if len(values) != 2]
    if wrong:
        raise SystemExit(f"{cell.method} on {cell.task}: no pair of weight decays at {wrong[0]}")
    return np.array(list(found.values()))


def could_win(pairs: Pairs) -> NDArray[np.bool_]:
    """Which of them [N] luck could make the best."""
    near: NDArray[np.bool_] = pairs.mean(axis=1) > pairs.max() - GOOD
    return near


def oracle(pairs: Pairs, budgets: list[int], draws: np.random.Generator) -> list[float]:
    """Mean regret after each budget; a trial's deviation; what the last budget's winner is worth.

    Worth is the difference of expectations between that winner and the whole grid's.
    """
    near = could_win(pairs)
    gaps = np.abs(pairs[near, 0] - pairs[near, 1])
    luck = max(1.4826 * float(np.median(gaps)) / 2**0.5, STEP / 2)  # robust: some pairs diverge
    means = pairs.mean(axis=1)
    of_luck = luck**2 / 2
    real = max(float(means[near].var()) - of_luck, 0.0)
    center = means[near].mean()
    means[near] = center + real / (real + of_luck) * (means[near] - center)
    expected = np.sort(np.repeat(means, 2))[::-1]
    grids = expected + draws.normal(0, luck, (GRIDS, len(expected)))
    grids = np.round(grids / STEP) * STEP
    best = grids.max(axis=1)
    regrets = [float((best - grids[:, :budget].max(axis=1)).mean()) for budget in budgets]
    gain = expected[grids[:, : budgets[-1]].argmax(axis=1)] - expected[grids.argmax(axis=1)]
    return [*regrets, luck, float(gain.mean())]


if __name__ == "__main__":
    main()

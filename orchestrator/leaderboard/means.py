"""The means of a leaderboard, ours and published ones, by name."""

import statistics
from collections.abc import Sequence

VTAB_GROUPS = ("natural", "specialized", "structured")
MEANS = ("mean", "mean_19", "mean_groups", *VTAB_GROUPS, "fgvc")


def averages(groups: Sequence[str], accuracies: Sequence[float]) -> dict[str, float | None]:
    """All means of some tasks' accuracies, by name; groups: the group of each task."""
    of_group = {
        name: [a for group, a in zip(groups, accuracies, strict=True) if group == name]
        for name in (*VTAB_GROUPS, "fgvc")
    }
    means = {group: average(found) for group, found in of_group.items()}
    return {
        "mean": average(accuracies),
        "mean_19": average([accuracy for group in VTAB_GROUPS for accuracy in of_group[group]]),
        "mean_groups": average([m for group in VTAB_GROUPS if (m := means[group]) is not None]),
        **means,
    }


def average(values: Sequence[float]) -> float | None:
    """The mean of some values, None of none."""
    return statistics.fmean(values) if values else None

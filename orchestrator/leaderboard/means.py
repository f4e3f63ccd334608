"""The means of a leaderboard, ours and published ones, by name."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

VTAB_GROUPS = ("natural", "specialized", "structured")
PUBLISHED_GROUPS = (*VTAB_GROUPS, "fgvc")


def groups_of(planned: Iterable[str]) -> tuple[str, ...]:
    """The groups that a board has means of: the published ones, and the user's own.

    The demos have none, as they are no benchmark.
    """
    own = (group for group in planned if group != "demo")
    return tuple(dict.fromkeys((*PUBLISHED_GROUPS, *own)))


def mean_names(planned: Iterable[str]) -> tuple[str, ...]:
    """The names of all means of a board whose tasks are of these groups."""
    return ("mean", "mean_19", "mean_groups", *groups_of(planned))


def averages(
    groups: Sequence[str], accuracies: Sequence[float], planned: Iterable[str] = ()
) -> dict[str, float | None]:
    """All means of some tasks' accuracies, by name; only VTAB-1k's tasks are in its means.

    groups: the group of each task. planned: of those, too, that have no accuracy yet.
    """
    of_group = {
        name: [a for group, a in zip(groups, accuracies, strict=True) if group == name]
        for name in groups_of((*groups, *planned))
    }
    means = {group: average(found) for group, found in of_group.items()}
    return {
        "mean": average(accuracies),
        "mean_19": average([accuracy for group in VTAB_GROUPS for accuracy in of_group[group]]),
        "mean_groups": average([m for group in VTAB_GROUPS if (m := means[group]) is not None]),
        **means,
    }


def weights(groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """How much each task counts in each mean that it is part of; groups: task -> group."""
    found: dict[str, dict[str, float]] = {}
    for task in groups:
        alone = averages(list(groups.values()), [float(other == task) for other in groups])
        for name, weight in alone.items():
            if weight:
                found.setdefault(name, {})[task] = weight
    return found


def average(values: Sequence[float]) -> float | None:
    """The mean of some values, None of none."""
    return statistics.fmean(values) if values else None

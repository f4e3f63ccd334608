"""The leaderboard -> our numbers beside published ones, as people read them.

The terminal and the HTML page both draw it, so that they can't differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from orchestrator.leaderboard.board import Board, Interval, Mean, Reference, Row
from orchestrator.leaderboard.grid import MOST_TASKS, Grid, final_seeds, number, short

TITLES = {"mean_19": "mean of 19", "mean_groups": "mean of groups"}
MARKS = {"test-picked": "t", "val-picked": "v", "copied baseline": "c"}
MEANING = {
    "t": "t: the epoch that was best on the test split.",
    "v": "v: settings chosen on validation images, last epoch.",
    "c": "c: a baseline that the table's authors copied from a paper with another protocol.",
    "w": "w: other pretrained weights than ours (w?: which ones can't be told).",
}


class Ours(NamedTuple):
    """An accuracy of ours, its 95 % interval, and over how many seeds it goes."""

    accuracy: float | None
    interval: Interval | None
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """One number of ours with what others printed, in %; differences are ours minus theirs.

    where: a task, or a mean by its title. kind: task, headline (a benchmark's mean) or group.
    spread: half the 95 % interval over seeds. marks: what to know of the published number.
    """

    backbone: str
    method: str
    where: str
    kind: str
    ours: float | None
    spread: float | None
    seeds: int
    published: float | None
    marks: str
    difference: float | None
    retuned: float | None
    retuned_difference: float | None

    def brief(self) -> "Comparison":
        """The comparison without interval and re-tuning, for narrow terminals."""
        return replace(self, spread=None, retuned=None, retuned_difference=None)


def compare(board: Board, grid: Grid) -> list[Comparison]:
    """All numbers that others printed, too: for each line of the grid its means, then its tasks."""
    titles = short(row.task for row in board.rows)
    means = {(mean.backbone, mean.method): mean for mean in board.means}
    found = []
    for line in grid.lines:
        mean = means[line.backbone, line.method]
        printed, anew = mean.published or {}, mean.retuned or {}
        for key in dict.fromkeys((*printed, *anew)):
            if key == "mean":
                continue  # stands under its group's name
            kind = "headline" if key in (*TITLES, "fgvc") else "group"
            ours = Ours(mean.averages[key], mean.ci95.get(key), final_seeds(board))
            pair = printed.get(key), anew.get(key)
            found.append(_comparison(mean, TITLES.get(key, key), kind, ours, *pair))
        for row in board.rows:
            if (row.backbone, row.method) != (line.backbone, line.method):
                continue
            if row.published or row.retuned:
                test = row.test_accuracy
                ours = Ours(test.mean, test.ci95, test.n) if test else Ours(None, None, 0)
                pair = row.published, row.retuned
                found.append(_comparison(row, titles[row.task], "task", ours, *pair))
    return found


def headlines(every: Sequence[Comparison]) -> list[Comparison]:
    """The benchmarks' means, or else the groups'; tasks too if they are few."""
    few = len({entry.where for entry in every if entry.kind == "task"}) <= MOST_TASKS
    means = "headline" if any(entry.kind == "headline" for entry in every) else "group"
    return [entry for entry in every if entry.kind in (means, *(("task",) if few else ()))]


def notes(board: Board, shown: Sequence[Comparison]) -> list[str]:
    """The legend of a comparison, and the errors in the published tables."""
    if not shown:
        return []
    said = ["Printed means are made from the printed cells; differences are ours minus theirs."]
    if any(entry.spread is not None for entry in shown):
        said.append(f"± half the 95 % interval over {final_seeds(board)} seeds.")
    used = {mark for entry in shown for mark in entry.marks}
    said += [meaning for mark, meaning in MEANING.items() if mark in used]
    if any(entry.retuned is not None for entry in shown):
        said.append(
            "Re-tuned: an independent study, settings chosen on validation images, last epoch, one "
            "seed, on ImageNet-21k weights."
        )
    trained_on = board.protocol.final_on
    if trained_on == "train+val" and any(row.task.startswith("fgvc/") for row in _given(board)):
        said.append("FGVC finals train on train + val here, the published ones on train alone.")
    wrong = [
        f"{entry.backbone} {entry.name} {TITLES.get(entry.mean, entry.mean)} "
        f"{number(entry.printed)}, cells give {entry.recomputed:.2f}"
        + (" (rounding could do that)" if entry.by_rounding else "")
        for entry in board.published_disagreements
    ]
    if wrong:
        said.append(f"Printed means that their own cells contradict: {'; '.join(wrong)}.")
    return said


def sources(board: Board) -> list[str]:
    """Where the figures are from."""
    entries = (entry for row in _given(board) for entry in (row.published, row.retuned))
    return list(dict.fromkeys(entry.source for entry in entries if entry))


def marks(printed: Reference) -> str:
    """What to know of a published figure, as MEANING explains it."""
    weights = {True: "", False: "w", None: "w?"}[printed.same_weights]
    return MARKS[printed.protocol] + weights


def signed(difference: float | None) -> str:
    """A difference as shown."""
    return "–" if difference is None else f"{difference:+.1f}".replace("-", "−")


def level(p: float) -> str:
    """A p-value as shown."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _given(board: Board) -> Iterable[Row]:
    return (row for row in board.rows if row.published or row.retuned)


def _comparison(
    of: Row | Mean,
    where: str,
    kind: str,
    ours: Ours,
    printed: Reference | None,
    anew: Reference | None,
) -> Comparison:
    spread = None
    if ours.accuracy is not None and ours.interval:
        spread = max(abs(bound - ours.accuracy) for bound in ours.interval)
    return Comparison(
        of.backbone,
        of.method,
        where,
        kind,
        ours.accuracy,
        spread,
        ours.seeds,
        printed.accuracy if printed else None,
        marks(printed) if printed else "",
        printed.difference if printed else None,
        anew.accuracy if anew else None,
        anew.difference if anew else None,
    )

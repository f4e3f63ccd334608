"""The leaderboard -> the grid of numbers that people read.

It decides what stands in which column, what is incomplete and what is best; the terminal and the
HTML page both draw it, so that they can't differ.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median_low

from arc_train.tasks.standins import VARIANT
from orchestrator.leaderboard.board import Board, Mean, Row
from orchestrator.leaderboard.means import VTAB_GROUPS, average, groups_of
from orchestrator.leaderboard.paired import LEVEL

# Over how many tasks the published means of these names go.
PUBLISHED_SIZE = {"natural": 7, "specialized": 4, "structured": 8, "fgvc": 5}
# What finals' predictions say beside accuracy, and how it is headed.
QUALITY = {"balanced_accuracy": "balanced\naccuracy", "ece": "ECE", "nll": "NLL"}
CALIBRATION = (
    "Balanced accuracy: mean over classes, in %; ECE: calibration error over 15 bins of "
    "confidence, in %; NLL: cross-entropy, in nats. Means over tasks and finals; * over those that "
    "kept their predictions."
)
MOST_FILES = 4  # that are named where files are left aside
MOST_TASKS = 6
TIES = "≈"


@dataclass(frozen=True)
class Column:
    """A column of the grid.

    kind: mean, leak (what the leak meter saw), params, quality (calibration, shown when asked for),
    group or task.
    """

    key: str
    title: str
    kind: str
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """A number with what it stands on: `have` of `want` tasks (or seeds, for a task).

    ties: whether the seeds can't tell it from the best of its backbone.
    source: index into the board's rows, for a task.
    """

    value: float | None
    std: float | None = None
    have: int = 0
    want: int = 0
    best: bool = False
    ties: bool = False
    source: int | None = None

    @property
    def partial(self) -> bool:
        """Whether it has a value that more tasks (or seeds) will change."""
        return self.value is not None and self.have < self.want


@dataclass(frozen=True)
class Line:
    """A method on a backbone, with a cell for each column."""

    backbone: str
    method: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """All numbers of a leaderboard, best lines first; the first column is the one that ranks."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def grid(board: Board) -> Grid:
    """The numbers of a board: means, parameters, group means, tasks.

    Best is the highest of the complete values of a column, at the precision shown, where there
    are two to compare: a mean over the easier half of the tasks can't win.
    """
    columns = _columns(board)
    rows: dict[tuple[str, str], dict[str, tuple[int, Row]]] = {}
    for index, row in enumerate(board.rows):
        rows.setdefault((row.backbone, row.method), {})[row.task] = (index, row)
    seeds = final_seeds(board)
    table = [
        (
            mean,
            [
                _cell(column, mean, rows.get((mean.backbone, mean.method), {}), seeds)
                for column in columns
            ],
        )
        for mean in board.means
    ]
    for place, column in enumerate(columns):
        if column.kind in ("params", "leak", "quality"):
            continue
        complete = [
            cells[place].value
            for _, cells in table
            if cells[place].value is not None and not cells[place].partial
        ]
        top = max((number(value) for value in complete), key=float, default=None)
        for _, cells in table:
            cell = cells[place]
            if len(complete) > 1 and not cell.partial and number(cell.value) == top:
                cells[place] = replace(cell, best=True, ties=False)
    lines = [Line(mean.backbone, mean.method, tuple(cells)) for mean, cells in table]
    return Grid(tuple(columns), tuple(sorted(lines, key=_rank)))


def statement(board: Board) -> str:
    """The protocol behind the numbers, in a sentence."""
    seeds = final_seeds(board)
    final_on = (board.protocol.final_on or "images that no spec.yaml names").replace("+", " + ")
    over = (
        f"mean ± standard deviation over {seeds} seeds"
        if seeds > 1
        else "one seed, so that nothing says how far chance carries a number"
    )
    once = "once per final, after its last epoch"
    if board.protocol.leak_meter:
        once += (
            "; the leak meter also tests finals after every epoch, when nothing is left to choose"
        )
    stand_ins = any(VARIANT in row.variants for row in board.rows)
    balanced = [
        title
        for task, title in short(dict.fromkeys(row.task for row in board.rows)).items()
        if any(row.task == task and row.metric == "balanced_accuracy" for row in board.rows)
    ]
    mean = f" Balanced accuracy, the mean over classes: {', '.join(balanced)}." if balanced else ""
    rehearsal = "REHEARSAL on drawn stand-ins, not on the named tasks. " if stand_ins else ""
    return (
        f"{rehearsal}Test accuracy in %, {over}: each study's winner, chosen on validation images "
        f"alone, is refitted on {final_on}, and the test split is opened {once}.{mean}"
    )


def differing(board: Board) -> str | None:
    """How several sweeps were searched and trained differently, in a sentence."""
    if not board.differences:
        return None
    return f"NOT THE SAME EFFORT in these sweeps: {'; '.join(board.differences)}."


def left_aside(board: Board) -> str | None:
    """Which files could not be read, in a sentence: the numbers are those without them."""
    if not board.unreadable:
        return None
    count = len(board.unreadable)
    files = "1 file that can't be read" if count == 1 else f"{count} files that can't be read"
    more = "; ..." if count > MOST_FILES else ""
    return f"LEFT ASIDE: {files}: {'; '.join(board.unreadable[:MOST_FILES])}{more}"


def legend(board: Board, cells: Iterable[Cell], kinds: Container[str]) -> list[str]:
    """What stands behind the marks of the cells shown, and behind these kinds of columns."""
    notes = []
    if any(cell.ties for cell in cells):
        of = " on its backbone" if len({row.backbone for row in board.rows}) > 1 else ""
        how = (
            f"on the same test images (p of {LEVEL:g} or more, corrected for all pairs)"
            if board.pairs
            else "their 95 % intervals over seeds overlap"
        )
        notes.append(f"{TIES} can't be told from the best{of}: {how}.")
    if "quality" in kinds:
        notes.append(CALIBRATION)
    if "leak" in kinds:
        notes.append(
            "Best on test: what picking each final's best epoch on the test set would have "
            "claimed; gap: by how much that is too high."
        )
    return notes


def hardly_told(board: Board) -> str | None:
    """How often validation could hardly tell the winner from others, in a sentence."""
    ties = [row.ties for row in board.rows if row.ties]
    close = sorted(entry.within_one_se for entry in ties if entry.within_one_se)
    if not close:
        return None
    return (
        f"In {len(close)} of {len(ties)} studies other trials (median {median_low(close)}) lie "
        "within one standard error of the winner's validation accuracy."
    )


def final_seeds(board: Board) -> int:
    """How many finals a study has when it is complete."""
    return len(board.protocol.seeds)


def number(value: float | None) -> str:
    """An accuracy as shown."""
    return "–" if value is None else f"{value:.1f}"


def figure(value: float | None, column: Column) -> str:
    """The value of a cell as shown in its column."""
    if column.kind == "params":
        return parameters(value)
    return f"{value:.3f}" if column.key == "nll" and value is not None else number(value)


def parameters(count: float | None) -> str:
    """A number of parameters as shown."""
    if count is None:
        return "–"
    if count < 1e5:
        return f"{count / 1e3:.1f} k"
    return f"{count / 1e6:.2f} M" if count < 1e7 else f"{count / 1e6:.1f} M"


def _columns(board: Board) -> list[Column]:
    groups = {row.task: row.group for row in board.rows}
    planned = Counter(groups.values())
    params = Column("params_mean", "params", "params")
    tasks = [Column(task, title, "task", groups[task]) for task, title in short(groups).items()]
    leak = []
    if any(row.best_on_test for row in board.rows):
        leak = [Column("best_on_test", "best\non test", "leak"), Column("gap", "gap", "leak")]
    quality = []
    if any(row.quality for row in board.rows):
        quality = [Column(key, title, "quality") for key, title in QUALITY.items()]
    if len(groups) == 1:
        return [*tasks, *leak, params, *quality]
    means = [Column("mean", "mean", "mean")]
    if all(planned[group] == PUBLISHED_SIZE[group] for group in VTAB_GROUPS):
        means = [
            Column("mean_19", "mean\nof 19", "mean"),
            Column("mean_groups", "mean of\ngroups", "mean"),
        ]
    shown = [g for g in groups_of(planned) if planned[g] > (g not in PUBLISHED_SIZE)]
    if len(planned) == 1:
        shown = []  # the mean of the only group is the mean, and of the only task its accuracy
    above = (_group(group, planned[group]) for group in shown)
    return [*means, *leak, params, *quality, *above, *tasks]


def _group(group: str, planned: int) -> Column:
    """A group's mean; a part of a group must not pass for the whole that papers report."""
    whole = PUBLISHED_SIZE.get(group, planned)
    part = f"\n{planned} of {whole}" if planned < whole else ""
    return Column(group, group + part, "group", group)


def short(tasks: Iterable[str]) -> dict[str, str]:
    """Task -> its name without the family, where that is unambiguous."""
    tails = {task: task.split("/", 1)[-1] for task in tasks}
    count = Counter(tails.values())
    return {task: tail if tail and count[tail] == 1 else task for task, tail in tails.items()}


def _cell(column: Column, mean: Mean, rows: Mapping[str, tuple[int, Row]], seeds: int) -> Cell:
    if column.kind == "task":
        index, row = rows.get(column.key, (None, None))
        return _task_cell(index, row, seeds)
    inside = [row for _, row in rows.values()]
    if column.kind == "group":
        inside = [row for row in inside if row.group == column.key]
    elif column.key in ("mean_19", "mean_groups"):
        inside = [row for row in inside if row.group in VTAB_GROUPS]
    if column.kind == "leak":
        if mean.best_on_test is None:
            return Cell(None, want=len(inside))
        value = mean.best_on_test.gap if column.key == "gap" else mean.best_on_test.mean
        return Cell(value, have=mean.best_on_test.n_tasks, want=len(inside))
    if column.kind == "quality":
        kept = [getattr(row.quality, column.key) for row in inside if row.quality]
        return Cell(average(kept), have=len(kept), want=len(inside))
    have = sum(1 for row in inside if row.test_accuracy)
    if column.kind == "params":
        return Cell(mean.params_mean, have=have, want=len(inside))
    ties = bool(mean.ties_with_best.get(column.key))
    return Cell(mean.averages[column.key], have=have, want=len(inside), ties=ties)


def _task_cell(index: int | None, row: Row | None, seeds: int) -> Cell:
    if row is None or row.test_accuracy is None:
        return Cell(None, want=seeds, source=index)
    test, ties = row.test_accuracy, bool(row.ties_with_best)
    return Cell(test.mean, test.std, test.n, seeds, ties=ties, source=index)


def _rank(line: Line) -> tuple[bool, bool, float]:
    first = line.cells[0]
    return first.value is None, first.partial, -(first.value or 0.0)

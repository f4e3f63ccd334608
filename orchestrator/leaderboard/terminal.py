"""leaderboard.json's content -> what a person reads: the grid of numbers, and it on a terminal.

`grid` decides what stands in which column, what is incomplete and what is best; the terminal and
the HTML page both draw it, so that they can't differ.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

Board = Mapping[str, Any]
Row = Mapping[str, Any]

VTAB = ("natural", "specialized", "structured")
# Over how many tasks the published means of these names go.
PUBLISHED_SIZE = {"natural": 7, "specialized": 4, "structured": 8, "fgvc": 5}
MOST_TASKS = 6
GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of the grid. kind: mean, params, group or task."""

    key: str
    title: str
    kind: str
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """A number with what it stands on: `have` of `want` tasks (or seeds, for a task).

    source: index into the board's rows, for a task.
    """

    value: float | None
    std: float | None = None
    have: int = 0
    want: int = 0
    best: bool = False
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
    for index, row in enumerate(board["rows"]):
        rows.setdefault((row["backbone"], row["method"]), {})[row["task"]] = (index, row)
    seeds = final_seeds(board)
    table = [
        (
            mean,
            [
                _cell(column, mean, rows.get((mean["backbone"], mean["method"]), {}), seeds)
                for column in columns
            ],
        )
        for mean in board["means"]
    ]
    for place, column in enumerate(columns):
        if column.kind == "params":
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
                cells[place] = replace(cell, best=True)
    lines = [Line(mean["backbone"], mean["method"], tuple(cells)) for mean, cells in table]
    return Grid(tuple(columns), tuple(sorted(lines, key=_rank)))


def statement(board: Board) -> str:
    """The protocol behind the numbers, in a sentence."""
    seeds = final_seeds(board)
    final_on = str(board["protocol"].get("final_on", "train+val")).replace("+", " + ")
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"Test accuracy in %, {over}: each study's winner, chosen on validation images alone, is "
        f"refitted on {final_on}, and the test split is opened once per final, after its last "
        "epoch."
    )


def final_seeds(board: Board) -> int:
    """How many finals a study has when it is complete."""
    seeds = board["protocol"].get("seeds")
    if seeds:
        return len(seeds)
    return max(
        (row["test_accuracy"]["n"] for row in board["rows"] if row["test_accuracy"]), default=0
    )


def number(value: float | None) -> str:
    """An accuracy as shown."""
    return "–" if value is None else f"{value:.1f}"


def parameters(count: float | None) -> str:
    """A number of parameters as shown."""
    if count is None:
        return "–"
    if count < 1e5:
        return f"{count / 1e3:.1f} k"
    return f"{count / 1e6:.2f} M" if count < 1e7 else f"{count / 1e6:.1f} M"


def render(board: Board) -> RenderableType:
    """The leaderboard for a terminal of any width from 40 columns."""
    return _Leaderboard(board)


def _columns(board: Board) -> list[Column]:
    groups = {row["task"]: row["group"] for row in board["rows"]}
    planned = Counter(groups.values())
    params = Column("params_mean", "params", "params")
    tasks = [Column(task, title, "task", groups[task]) for task, title in short(groups).items()]
    if len(groups) == 1:
        return [*tasks, params]
    means = [Column("mean", "mean", "mean")]
    if sum(planned[group] for group in VTAB) == sum(PUBLISHED_SIZE[group] for group in VTAB):
        means = [
            Column("mean_19", "mean\nof 19", "mean"),
            Column("mean_groups", "mean of\ngroups", "mean"),
        ]
    shown = [group for group in PUBLISHED_SIZE if planned[group]]
    if len(planned) == 1 and len(shown) == 1:
        shown = []  # the mean of the only group is the mean
    return [*means, params, *(_group(group, planned[group]) for group in shown), *tasks]


def _group(group: str, planned: int) -> Column:
    """A group's mean; a part of a group must not pass for the whole that papers report."""
    whole = PUBLISHED_SIZE[group]
    part = f"\n{planned} of {whole}" if planned < whole else ""
    return Column(group, group + part, "group", group)


def short(tasks: Iterable[str]) -> dict[str, str]:
    """Task -> its name without the family, where that is unambiguous."""
    tails = {task: task.split("/", 1)[-1] for task in tasks}
    count = Counter(tails.values())
    return {task: tail if tail and count[tail] == 1 else task for task, tail in tails.items()}


def _cell(column: Column, mean: Row, rows: Mapping[str, tuple[int, Row]], seeds: int) -> Cell:
    if column.kind == "task":
        index, row = rows.get(column.key, (None, {}))
        test = row.get("test_accuracy")
        if not test:
            return Cell(None, want=seeds, source=index)
        return Cell(test["mean"], test["std"], test["n"], seeds, source=index)
    inside = [row for _, row in rows.values()]
    if column.kind == "group":
        inside = [row for row in inside if row["group"] == column.key]
    elif column.key in ("mean_19", "mean_groups"):
        inside = [row for row in inside if row["group"] in VTAB]
    have = sum(1 for row in inside if row["test_accuracy"])
    return Cell(mean[column.key], have=have, want=len(inside))


def _rank(line: Line) -> tuple[bool, bool, float]:
    first = line.cells[0]
    return first.value is None, first.partial, -(first.value or 0.0)


class _Leaderboard:
    """Draws a board in the most detailed layout that fits the console."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.grid = grid(board)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(row["test_accuracy"] for row in self.board["rows"]):
            yield Text.assemble((str(self.board["sweep"]), "bold"), self._nothing())
            return
        layout = self._layout(options.max_width)
        backbones = list(dict.fromkeys(row["backbone"] for row in self.board["rows"]))
        yield Text(str(self.board["sweep"]), style="bold")
        for backbone in backbones:
            if len(backbones) > 1:
                yield Text(f"\n{backbone}", style="italic")
            yield layout.table([line for line in self.grid.lines if line.backbone == backbone])
        yield Text("")
        for note in self._notes(layout):
            yield Text(note, style="dim")

    def _nothing(self) -> str:
        trials = sum(row["trials"] for row in self.board["rows"])
        studies = len(self.board["rows"])
        return f": no final has finished yet ({trials} search trials, {studies} studies)"

    def _layout(self, width: int) -> "_Layout":
        """Tasks if they are few, their ± beside or below; else group means; else means alone."""
        tasks = [column for column in self.grid.columns if column.kind == "task"]
        choices: list[tuple[tuple[str, ...], bool]] = []
        if len(tasks) <= MOST_TASKS:
            choices += [(("task", "mean", "params"), False), (("task", "mean", "params"), True)]
        choices.append((("group", "mean", "params"), False))
        if len(tasks) == 1:
            choices = choices[:2]
        for kinds, stacked in choices:
            layout = _Layout(self.grid, kinds, stacked, width)
            if layout.fits:
                return layout
        kinds = ("mean", "params") if len(tasks) > 1 else ("task", "params")
        return _Layout(self.grid, kinds, True, width)

    def _notes(self, layout: "_Layout") -> list[str]:
        notes = []
        by_count: dict[tuple[int, int], list[str]] = {}
        several = len({line.backbone for line in self.grid.lines}) > 1
        for line, mean in _with_means(self.grid.lines, self.board):
            if 0 < mean["n_tasks"] < mean["n_expected"]:
                by_count.setdefault((mean["n_tasks"], mean["n_expected"]), []).append(line.method)
        if any(cell.partial for cell in layout.cells(("mean", "group"))):
            for (have, want), names in sorted(by_count.items(), reverse=True):
                who = f"{len(names)} lines" if several or len(names) > 6 else ", ".join(names)
                notes.append(f"* over {have} of {want} tasks: {who}")
        seeds = final_seeds(self.board)
        tested = [row["test_accuracy"] for row in self.board["rows"] if row["test_accuracy"]]
        missing = sum(1 for test in tested if test["n"] < seeds)
        if missing:
            mark = "† " if any(cell.partial for cell in layout.cells(("task",))) else ""
            notes.append(
                f"{mark}fewer than {seeds} finals so far: {missing} of {len(tested)} studies"
            )
        return [*notes, statement(self.board)]


def _with_means(lines: Iterable[Line], board: Board) -> Iterable[tuple[Line, Row]]:
    means = {(mean["backbone"], mean["method"]): mean for mean in board["means"]}
    return ((line, means[line.backbone, line.method]) for line in lines)


class _Layout:
    """Some columns of a grid as text, with widths that are the same for every backbone."""

    def __init__(self, grid: Grid, kinds: Sequence[str], stacked: bool, width: int) -> None:
        self.grid = grid
        self.stacked = stacked
        self.places = [
            place
            for kind in kinds
            for place, column in enumerate(grid.columns)
            if column.kind == kind
        ]
        self.marked = {p for p in self.places if any(li.cells[p].partial for li in grid.lines)}
        self.spread = {
            place: max((len(_deviation(line.cells[place])) for line in grid.lines), default=0)
            for place in self.places
        }
        self.widths = [self._width(place) for place in self.places]
        names = max((cell_len(line.method) for line in grid.lines), default=0)
        left = width - sum(self.widths) - GAP * len(self.widths)
        self.fits = max(names, 6) <= left
        self.names = max(6, min(names, left))

    def cells(self, kinds: Sequence[str]) -> list[Cell]:
        """The shown cells of some kinds of columns."""
        places = [place for place in self.places if self.grid.columns[place].kind in kinds]
        return [line.cells[place] for line in self.grid.lines for place in places]

    def table(self, lines: Sequence[Line]) -> Table:
        """Some lines as a table."""
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
        titles = ["method", *(self.grid.columns[place].title for place in self.places)]
        deepest = max(title.count("\n") for title in titles)
        for title, width in zip(titles, (self.names, *self.widths), strict=True):
            # All titles end on the last line; a table's own alignment would move the cells too.
            header = Text("\n" * (deepest - title.count("\n")) + title)
            first = title is titles[0]
            table.add_column(
                header,
                width=width,
                justify="left" if first else "right",
                no_wrap=not first,
                overflow="fold",
            )
        for line in lines:
            table.add_row(Text(line.method), *(self._text(line, place) for place in self.places))
        return table

    def _width(self, place: int) -> int:
        texts = [self._text(line, place).plain for line in self.grid.lines]
        parts = [
            part for text in (self.grid.columns[place].title, *texts) for part in text.split("\n")
        ]
        return max(cell_len(part) for part in parts)

    def _text(self, line: Line, place: int) -> Text:
        """A number, its mark and its deviation, padded so that decimal points stand in line."""
        cell, kind = line.cells[place], self.grid.columns[place].kind
        text = Text(style="bold" if cell.best else "")
        text.append(parameters(cell.value) if kind == "params" else number(cell.value))
        if place in self.marked:
            mark = "†" if kind == "task" else "*"
            text.append(mark if cell.partial else " ")
        if self.spread[place]:
            deviation = _deviation(cell)
            if self.stacked:
                text.append("\n")
                deviation += " " * (place in self.marked)
            else:
                deviation = " " + deviation.ljust(self.spread[place])
            text.append(deviation, style="not bold dim")
        return text


def _deviation(cell: Cell) -> str:
    return "" if cell.std is None else f"±{cell.std:.1f}"

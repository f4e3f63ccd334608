"""The leaderboard on a terminal."""

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from orchestrator.leaderboard import comparison
from orchestrator.leaderboard.board import Board, Mean
from orchestrator.leaderboard.comparison import Comparison, compare, headlines, signed
from orchestrator.leaderboard.grid import (
    MOST_TASKS,
    TIES,
    Cell,
    Grid,
    Line,
    differing,
    figure,
    final_seeds,
    grid,
    hardly_told,
    left_aside,
    legend,
    number,
    statement,
)

GAP = 2
WIDE = 64  # columns from which intervals and re-tuned figures fit


def render(board: Board, calibration: bool = False) -> RenderableType:
    """The leaderboard for a terminal of any width from 40 columns.

    calibration: with the columns of balanced accuracy and calibration.
    """
    return _Leaderboard(board, calibration)


class _Leaderboard:
    """Draws a board in the most detailed layout that fits the console."""

    def __init__(self, board: Board, calibration: bool) -> None:
        self.board = board
        self.last = ("quality", "params") if calibration else ("params",)
        self.grid = grid(board)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(row.test_accuracy for row in self.board.rows):
            yield Text.assemble((self.board.sweep, "bold"), self._nothing())
            if aside := left_aside(self.board):
                yield Text(aside, style="bold red")
            return
        layout = self._layout(options.max_width)
        backbones = list(dict.fromkeys(row.backbone for row in self.board.rows))
        yield Text(self.board.sweep, style="bold")
        for backbone in backbones:
            if len(backbones) > 1:
                yield Text(f"\n{backbone}", style="italic")
            yield layout.table([line for line in self.grid.lines if line.backbone == backbone])
        yield Text("")
        for note in self._notes(layout):
            yield Text(note, style="dim")
        if unlike := differing(self.board):
            yield Text(unlike, style="bold")
        if aside := left_aside(self.board):
            yield Text(aside, style="bold red")
        every = compare(self.board, self.grid)
        if every:
            yield Text("\nbeside the published tables", style="bold")
            shown = headlines(every)
            if options.max_width < WIDE:
                shown = [entry.brief() for entry in shown]
            for backbone in dict.fromkeys(entry.backbone for entry in shown):
                if len(backbones) > 1:
                    yield Text(f"\n{backbone}", style="italic")
                mine = [entry for entry in shown if entry.backbone == backbone]
                yield _comparison(mine)
            yield Text("")
            for note in comparison.notes(self.board, shown):
                yield Text(note, style="dim")
            if len(shown) < len(every):
                yield Text("Every task: leaderboard.html and leaderboard.csv.", style="dim")

    def _nothing(self) -> str:
        trials = sum(row.trials for row in self.board.rows)
        studies = len(self.board.rows)
        return f": no final has finished yet ({trials} search trials, {studies} studies)"

    def _layout(self, width: int) -> "_Layout":
        """Tasks if they are few, their ± beside or below; else group means; else means alone."""
        tasks = [column for column in self.grid.columns if column.kind == "task"]
        choices: list[tuple[tuple[str, ...], bool]] = []
        if len(tasks) <= MOST_TASKS:
            every = ("task", "mean", "leak", *self.last)
            choices += [(every, False), (every, True)]
        choices.append((("group", "mean", "leak", *self.last), False))
        if len(tasks) == 1:
            choices = choices[:2]
        first = "mean" if len(tasks) > 1 else "task"
        if any(column.kind == "leak" for column in self.grid.columns):
            choices += [((first, "leak", *self.last), True), ((first, "leak"), True)]
        for kinds, stacked in choices:
            layout = _Layout(self.grid, kinds, stacked, width)
            if layout.fits:
                return layout
        return _Layout(self.grid, (first, *self.last), True, width)

    def _notes(self, layout: "_Layout") -> list[str]:
        notes = []
        by_count: dict[tuple[int, int], list[str]] = {}
        several = len({line.backbone for line in self.grid.lines}) > 1
        for line, mean in _with_means(self.grid.lines, self.board):
            if 0 < mean.n_tasks < mean.n_expected:
                by_count.setdefault((mean.n_tasks, mean.n_expected), []).append(line.method)
        if any(cell.partial for cell in layout.cells(("mean", "group"))):
            for (have, want), names in sorted(by_count.items(), reverse=True):
                who = f"{len(names)} lines" if several or len(names) > 6 else ", ".join(names)
                notes.append(f"* over {have} of {want} tasks: {who}")
        seeds = final_seeds(self.board)
        tested = [row.test_accuracy for row in self.board.rows if row.test_accuracy]
        missing = sum(1 for test in tested if test.n < seeds)
        if missing:
            mark = "† " if any(cell.partial for cell in layout.cells(("task",))) else ""
            notes.append(
                f"{mark}fewer than {seeds} finals so far: {missing} of {len(tested)} studies"
            )
        marks = legend(self.board, layout.cells(("mean", "group", "task")), layout.kinds)
        told = hardly_told(self.board)
        return [*notes, *marks, *([told] if told else []), statement(self.board)]


def _with_means(lines: Iterable[Line], board: Board) -> Iterable[tuple[Line, Mean]]:
    means = {(mean.backbone, mean.method): mean for mean in board.means}
    return ((line, means[line.backbone, line.method]) for line in lines)


class _Layout:
    """Some columns of a grid as text, with widths that are the same for every backbone."""

    def __init__(self, grid: Grid, kinds: Sequence[str], stacked: bool, width: int) -> None:
        self.grid = grid
        self.kinds = {column.kind for column in grid.columns if column.kind in kinds}
        self.stacked = stacked
        self.places = [
            place
            for kind in kinds
            for place, column in enumerate(grid.columns)
            if column.kind == kind
        ]
        self.marked = {
            p
            for p in self.places
            if any(li.cells[p].partial or li.cells[p].ties for li in grid.lines)
        }
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
        text.append(figure(cell.value, self.grid.columns[place]))
        if place in self.marked:
            mark = "†" if kind == "task" else "*"
            text.append(mark if cell.partial else TIES if cell.ties else " ", style="not bold")
        if self.spread[place]:
            deviation = _deviation(cell)
            if self.stacked:
                text.append("\n")
                deviation += " " * (place in self.marked)
            else:
                deviation = " " + deviation.ljust(self.spread[place])
            text.append(deviation, style="not bold dim")
        return text


def _comparison(shown: Sequence[Comparison]) -> Table:
    """Our numbers beside published ones, a method's name on its first line only."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("method", overflow="fold")
    table.add_column("on", overflow="fold")
    anew = any(entry.retuned is not None for entry in shown)
    for title in ("ours", "printed", "diff.", *(("re-tuned", "diff.") if anew else ())):
        justify: Literal["left", "right"] = "left" if title == "printed" else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    before = None
    for entry in shown:
        spread = "" if entry.spread is None else f" ±{entry.spread:.1f}"
        cells = [number(entry.ours) + spread, f"{number(entry.published):>4} {entry.marks}"]
        cells.append(signed(entry.difference))
        if anew:
            cells += [number(entry.retuned), signed(entry.retuned_difference)]
        name = Text("" if entry.method == before else entry.method)
        table.add_row(name, Text(entry.where), *map(Text, cells))
        before = entry.method
    return table


def _deviation(cell: Cell) -> str:
    return "" if cell.std is None else f"±{cell.std:.1f}"

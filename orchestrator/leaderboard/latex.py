"""The leaderboard as LaTeX, in the layout of the published tables.

One table per backbone and benchmark: methods are rows, tasks columns under their groups, then means
and parameters; rows that others printed stand below ours. Needs booktabs and graphicx.
"""

from collections.abc import Sequence

from arc_train.tasks.catalog import catalog
from orchestrator.leaderboard.board import Board, Mean, Reference, Row
from orchestrator.leaderboard.comparison import compare, marks, notes, sources
from orchestrator.leaderboard.grid import (
    Cell,
    Column,
    Grid,
    differing,
    grid,
    legend,
    number,
    statement,
)
from orchestrator.leaderboard.means import VTAB_GROUPS, average

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: "\\" + character for character in "&%$#_{}"},
        "\n": " ",
        "±": r"$\pm$",
        "≈": r"$\approx$",
        "−": "$-$",
        "–": "--",
    }
)


def latex(board: Board) -> str:
    """All tables of a board."""
    numbers = grid(board)
    benchmarks = dict.fromkeys(row.benchmark for row in board.rows)
    backbones = dict.fromkeys(row.backbone for row in board.rows)
    text = "% Needs \\usepackage{booktabs,graphicx}\n"
    for backbone in backbones:
        for benchmark in benchmarks:
            text += "\n" + _table(board, numbers, backbone, benchmark, len(benchmarks) == 1)
    return text


def escape(text: str) -> str:
    """Text whose every character LaTeX prints as it is."""
    return text.translate(ESCAPES)


def _table(board: Board, numbers: Grid, backbone: str, benchmark: str, only: bool) -> str:
    rows = [row for row in board.rows if row.backbone == backbone and row.benchmark == benchmark]
    means = {mean.method: mean for mean in board.means if mean.backbone == backbone}
    columns = _columns(numbers, list(dict.fromkeys(row.group for row in rows)), only)
    ours, theirs, shown = [], [], []
    for line in numbers.lines:
        if line.backbone != backbone:
            continue
        mine = [row for row in rows if row.method == line.method]
        cells = [line.cells[numbers.columns.index(column)] for column in columns]
        values = [_cell(cell, column) for cell, column in zip(cells, columns, strict=True)]
        params = average([row.trainable_params or 0 for row in mine if row.test_accuracy])
        ours.append(_line([escape(line.method), *values, _millions(params)]))
        for kind in ("published", "retuned"):
            printed = _printed(kind, mine, means[line.method], columns)
            theirs += [printed] if printed else []
        shown += cells
    if theirs:
        heading = rf"\multicolumn{{{len(columns) + 2}}}{{l}}{{\emph{{Printed by others}}}} \\"
        theirs = [r"\midrule", heading, *theirs]
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{escape(backbone)}. {_caption(board, numbers, shown)}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{l*{{{len(columns) + 1}}}{{c}}}}",
            r"\toprule",
            *_heads(columns),
            _line(["Method", *map(_title, columns), "Params (M)"]),
            r"\midrule",
            *ours,
            *theirs,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _columns(numbers: Grid, groups: Sequence[str], only: bool) -> list[Column]:
    """Each group's tasks and its mean, then means of the benchmark's groups."""
    found = [
        column
        for group in groups
        for kind in ("task", "group")
        for column in numbers.columns
        if column.kind == kind and column.group == group
    ]
    whole = set(VTAB_GROUPS).issuperset(groups)
    return found + [
        column
        for column in numbers.columns
        if column.kind == "mean" and (whole if column.key != "mean" else only)
    ]


def _heads(columns: Sequence[Column]) -> list[str]:
    """The line of group names over their columns, and the rules under it."""
    inside = [column.group for column in columns if column.kind in ("task", "group")]
    names = list(dict.fromkeys(inside))
    if len(names) < 2:
        return []
    above, rules, start = [""], "", 2
    for name in names:
        size = inside.count(name)
        above.append(rf"\multicolumn{{{size}}}{{c}}{{{escape(name)}}}")
        rules += rf"\cmidrule(lr){{{start}-{start + size - 1}}}"
        start += size
    rest = len(columns) + 1 - len(inside)
    return [_line([*above, rf"\multicolumn{{{rest}}}{{c}}{{}}"]), rules]


def _title(column: Column) -> str:
    if column.kind == "task":
        named = catalog().get(column.key)
        return rf"\rotatebox{{90}}{{{escape(named.name if named else column.title)}}}"
    if column.kind == "group":
        return r"\rotatebox{90}{mean}" if "\n" not in column.title else escape(column.title)
    return rf"\rotatebox{{90}}{{{escape(column.title)}}}"


def _cell(cell: Cell, column: Column) -> str:
    mark = "" if not cell.partial else r"$^{\dagger}$" if column.kind == "task" else "$^{*}$"
    value = escape(number(cell.value))
    spread = "" if cell.std is None else rf"$_{{\pm{cell.std:.1f}}}$"
    return (rf"\textbf{{{value}}}" if cell.best else value) + mark + spread


def _printed(kind: str, rows: Sequence[Row], mean: Mean, columns: Sequence[Column]) -> str | None:
    """A line of what others printed for a method, where there is any."""
    published = kind == "published"
    by_task = {row.task: row.published if published else row.retuned for row in rows}
    entries: dict[str, Reference | None] = {**by_task}
    entries |= (mean.published if published else mean.retuned) or {}
    found = [entry for row in rows if (entry := entries[row.task])]
    if not found:
        return None
    name = found[0].name if published else f"{mean.method}, re-tuned"
    cells = [entries.get(column.key) for column in columns]
    values = [number(entry.accuracy if entry else None) for entry in cells]
    sup = f"$^{{\\mathrm{{{marks(found[0])}}}}}$" if published else ""
    return _line([escape(name) + sup, *map(escape, values), _millions(found[0].params_mean)])


def _caption(board: Board, numbers: Grid, cells: Sequence[Cell]) -> str:
    parts = [statement(board), *filter(None, [differing(board)]), *legend(board, [], ())]
    parts.append("Highest complete value of a column in bold.")
    if any(cell.partial for cell in cells):
        parts.append(
            r"$^{\dagger}$ Fewer finals than seeds so far; $^{*}$ mean over the finished tasks."
        )
    shown = compare(board, numbers)
    parts += notes(board, [entry.brief() for entry in shown])
    if shown:
        parts.append(f"Sources: {'; '.join(sources(board))}.")
    return " ".join(part if part.startswith("$") else escape(part) for part in parts)


def _millions(count: float | None) -> str:
    return "--" if count is None else f"{count / 1e6:.2f}"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"

"""The leaderboard and the trials -> one HTML page that needs nothing but a browser.

The table is made here, so that it is there at once and without scripts; page.html's script sorts
it and draws the plots from the data that stands in the page as JSON.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from arc_train.methods import METHODS
from orchestrator.leaderboard.board import Board, method_of, plain_board
from orchestrator.leaderboard.comparison import (
    Comparison,
    compare,
    headlines,
    notes,
    signed,
    sources,
)
from orchestrator.leaderboard.costs import cost_table
from orchestrator.leaderboard.grid import (
    CALIBRATION,
    MOST_TASKS,
    TIES,
    Cell,
    Column,
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
from orchestrator.leaderboard.paired import LEVEL
from orchestrator.leaderboard.plot_data import cost, searches
from orchestrator.leaderboard.ranks import ranks
from orchestrator.leaderboard.shares import section
from orchestrator.leaderboard.statuses import hours, statuses
from orchestrator.leaderboard.template import fill
from orchestrator.store.importance import Importances
from orchestrator.store.result import Result

DETAIL = (
    '<div id="detail" role="status"><p class="soft">Point at a number for what is behind it; '
    "click a task's for its search.</p></div>"
)


def page(board: Board, results: Iterable[Result], matters: Importances | None = None) -> str:
    """The page of a sweep: leaderboard, accuracy against parameters, searches, statuses.

    matters: what is known of the importance of hyperparameters.
    """
    trials = list(results)
    numbers = grid(board)
    parts = {
        "title": escape(board.sweep),
        "statement": " ".join(_statement(board)),
        "summary": _summary(board, trials),
        "table": _table(numbers) if board.rows else "",
        "filters": _filters(board),
        "every": _every(numbers) + _calibration(numbers),
        "detail": DETAIL if board.rows else "",
        "caption": _caption(numbers, board),
        "beside": _beside(board, numbers),
        "matters": section(matters, sum(row.trials for row in board.rows)),
        "statuses": statuses(board, trials),
        "costs": cost_table(board),
        "board": _json(plain_board(board)),
        "trials": _json(searches(board, trials)),
        "ranks": _json([asdict(ranking) for ranking in ranks(board)]),
        "cost": _json(cost(board, trials)),
        "level": f"{LEVEL:g}",
        "plotly": get_plotlyjs(),
    }
    return fill("page.html", parts)


def _json(value: Any) -> str:
    """JSON that nothing in it can end the <script> element around."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _statement(board: Board) -> Iterator[str]:
    yield escape(statement(board))
    if unlike := differing(board):
        yield f"<strong>{escape(unlike)}</strong>"
    if aside := left_aside(board):
        yield f"<strong>{escape(aside)}</strong>"


def _summary(board: Board, trials: Sequence[Result]) -> str:
    rows = [row for row in board.rows if row.sweep] or board.rows  # those that a sweep asks for
    tested = sum(1 for row in rows if row.test_accuracy)
    finals = sum(1 for t in trials if t.kind == "final" and t.status == "done")
    facts = [
        (f"{tested} of {len(rows)}", "studies with a result"),
        (f"{sum(row.trials for row in rows):,}", "search trials"),
        (f"{finals:,} of {len(rows) * final_seeds(board):,}", "finals tested"),
        (hours(sum(row.seconds for row in rows)), "of training"),
    ]
    return "".join(f"<li><b>{value}</b> {escape(what)}</li>" for value, what in facts)


def _table(numbers: Grid) -> str:
    """The leaderboard as a table; each column's sort key stands in its cells."""
    several = len({line.backbone for line in numbers.lines}) > 1
    tasks = [column for column in numbers.columns if column.kind == "task"]
    grouped = len({column.group for column in tasks}) > 1
    head = "".join(_head(c, place == 0, grouped) for place, c in enumerate(numbers.columns))
    body = "".join(_line(line, numbers.columns, several) for line in numbers.lines)
    return (
        f'<table id="leaderboard"{" class=compact" if _compact(numbers) else ""}>'
        '<thead><tr><th scope="col"><button type="button"><span>Method</span></button></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _filters(board: Board) -> str:
    """What the table can be narrowed to, where there is a choice."""
    found = ""
    for title, name, of in (
        ("Backbone", "by-backbone", lambda row: row.backbone),
        ("Tasks", "by-group", lambda row: row.group),
        ("Family", "by-family", lambda row: _family(row.method)),
    ):
        values = list(dict.fromkeys(str(of(row)) for row in board.rows))
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        found += (
            f"<label{'' if len(values) > 1 else ' hidden'}>{title} "
            f'<select id="{name}"><option value="">all</option>{options}</select></label>'
        )
    return found


def _family(method: str) -> str:
    """The family of a method that there is; others, a user's own among them, have none."""
    known = METHODS.get(method_of(method))
    return known.family if known else "other"


def _every(numbers: Grid) -> str:
    """The button that shows every task, where they are too many to be there at first."""
    hidden = "" if _compact(numbers) else " hidden"
    return (
        f'<button type="button" class="plain" id="every" aria-pressed="false"{hidden}>'
        "Show every task</button>"
    )


def _calibration(numbers: Grid) -> str:
    """The button that shows balanced accuracy and calibration."""
    hidden = "" if any(column.kind == "quality" for column in numbers.columns) else " hidden"
    return (
        '<button type="button" class="plain" id="calibration" aria-pressed="false" '
        f'title="{CALIBRATION}"{hidden}>Show calibration</button>'
    )


def _compact(numbers: Grid) -> bool:
    return sum(column.kind == "task" for column in numbers.columns) > MOST_TASKS


def _head(column: Column, ranks: bool, grouped: bool) -> str:
    group = f' data-group="{escape(column.group)}"' if column.group else ""
    above = f"<small>{escape(column.group)}</small>" if grouped and column.kind == "task" else ""
    title = "trainable\nparams" if column.kind == "params" else column.title
    title = escape(title).replace("\n", "<br>")
    return (
        f'<th scope="col" class="{column.kind}" data-key="{escape(column.key)}"{group}'
        f"{' aria-sort=descending' if ranks else ''}>"
        f'<button type="button">{above}<span>{title}</span></button></th>'
    )


def _caption(numbers: Grid, board: Board) -> str:
    shown = [
        cell
        for line in numbers.lines
        for cell, column in zip(line.cells, numbers.columns, strict=True)
        if column.kind != "quality"  # of those the button tells
    ]
    cells = [cell for cell in shown if cell.partial]
    notes = ["Highest complete value of a column in bold."]
    notes += legend(board, shown, {column.kind for column in numbers.columns} - {"quality"})
    if any(cell.source is None for cell in cells):
        notes.append("* Mean over the tasks finished so far (how many stands below it).")
    if any(cell.source is not None for cell in cells):
        notes.append(f"† Fewer than {final_seeds(board)} finals so far.")
    told = hardly_told(board)
    return " ".join([*notes, told] if told else notes)


def _line(line: Line, columns: Sequence[Column], several: bool) -> str:
    below = f"<small>{escape(line.backbone)}</small>" if several else ""
    cells = "".join(_td(cell, column) for cell, column in zip(line.cells, columns, strict=True))
    return (
        f'<tr data-backbone="{escape(line.backbone)}" data-method="{escape(line.method)}" '
        f'data-family="{_family(line.method)}">'
        f'<th scope="row"><span>{escape(line.method)}</span>{below}</th>{cells}</tr>'
    )


def _td(cell: Cell, column: Column) -> str:
    classes = column.kind + " best" * cell.best + " partial" * cell.partial
    data = "" if cell.value is None else f' data-v="{cell.value:.6g}"'
    if cell.source is not None:
        data += f" data-i={cell.source}"
    text = figure(cell.value, column)
    small = "" if cell.std is None else f"±{cell.std:.1f}"
    if cell.partial:
        text += f"<sup>{'†' if column.kind == 'task' else '*'}</sup>"
        if column.kind == "task":
            small += f" ({cell.have} of {cell.want})"
        elif column.kind not in ("params", "quality"):
            small = f"{cell.have} of {cell.want}"
    elif cell.ties:
        text += f"<sup>{TIES}</sup>"
    below = f"<small>{small}</small>" if small else ""
    return f'<td class="{classes}"{data}>{text}{below}</td>'


def _beside(board: Board, numbers: Grid) -> str:
    """The section that puts our numbers beside published ones, where there are any."""
    every = compare(board, numbers)
    if not every:
        return ""
    several = len({entry.backbone for entry in every}) > 1
    first = headlines(every)
    tables = _compared(first, several) if first else ""
    if len(first) < len(every):
        tables += f"<details><summary>Every mean and task</summary>{_compared(every, several)}"
        tables += "</details>"
    legend = " ".join([*notes(board, every), f"Sources: {'; '.join(sources(board))}."])
    return (
        '<section aria-labelledby="h-beside" id="beside"><div class="top">'
        '<h2 id="h-beside">Comparison the published tables</h2></div>'
        f'{tables}<p class="hint">{escape(legend)}</p></section>'
    )


def _compared(shown: Sequence[Comparison], several: bool) -> str:
    head = "".join(
        f'<th scope="col">{title}</th>'
        for title in ("On", "ours", "seeds", "printed", "difference", "re-tuned", "difference")
    )
    body, before = "", None
    for entry in shown:
        line = (entry.backbone, entry.method)
        below = f"<small>{escape(entry.backbone)}</small>" if several else ""
        name = "<td></td>"  # under the name of the line above
        if line != before:
            name = f'<th scope="row">{escape(entry.method)}{below}</th>'
        spread = "" if entry.spread is None else f" <small>±{entry.spread:.1f}</small>"
        body += (
            f"<tr{'' if line == before else ' class=first'}>{name}"
            f'<td class="on">{escape(entry.where)}</td><td>{number(entry.ours)}{spread}</td>'
            f"<td>{entry.seeds or '–'}</td><td>{number(entry.published)}<sup>{entry.marks}</sup>"
            f"</td><td>{signed(entry.difference)}</td><td>{number(entry.retuned)}</td>"
            f"<td>{signed(entry.retuned_difference)}</td></tr>"
        )
        before = line
    return (
        '<div class="scroll" tabindex="0"><table class="beside">'
        '<thead><tr><th scope="col">Method</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )

"""How trials ended, as the page shows it: by status and method, and why some ended early."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from orchestrator.leaderboard.board import Board
from orchestrator.store.result import Result, Status

STATUSES: tuple[Status, ...] = ("done", "stopped", "diverged", "failed")
MOST_NOTES = 20


def statuses(board: Board, trials: Sequence[Result]) -> str:
    """Search trials and finals by status: a bar and a table by method; why trials ended early."""
    shown = {row.study for row in board.rows}
    trials = [t for t in trials if t.study in shown]
    if not trials:
        return "<p>No trial has finished yet.</p>"
    total = Counter(trial.status for trial in trials)
    bar = "".join(
        f'<span class="{status}" style="flex-grow:{total[status]}"></span>'
        for status in STATUSES
        if total[status]
    )
    head = "".join(f'<th scope="col"><i class="{s}"></i>{s}</th>' for s in STATUSES)
    searched = [trial for trial in trials if trial.kind == "search"]
    body = "".join(
        _counts(method, [trial for trial in searched if trial.method == method], "by")
        for method in dict.fromkeys(row.method for row in board.rows)
    )
    body += _counts("All searches", searched)
    body += _counts("Finals", [trial for trial in trials if trial.kind == "final"])
    return (
        f'<div class="bar" aria-hidden="true">{bar}</div><div class="scroll" tabindex="0"><table>'
        f'<thead><tr><th scope="col">Search trials</th>{head}'
        '<th scope="col">training</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>{_notes(trials)}"
    )


def _counts(name: str, trials: Sequence[Result], kind: str = "all") -> str:
    count = Counter(trial.status for trial in trials)
    cells = "".join(f"<td>{count[status] or '–'}</td>" for status in STATUSES)
    spent = hours(sum(trial.seconds for trial in trials))
    return f'<tr class="{kind}"><th scope="row">{escape(name)}</th>{cells}<td>{spent}</td></tr>'


def _notes(trials: Iterable[Result]) -> str:
    """Why trials diverged or failed, the most frequent reasons first."""
    why = Counter(
        (trial.status, trial.note or "no reason recorded")
        for trial in trials
        if trial.status in ("diverged", "failed")
    )
    if not why:
        return ""
    items = "".join(
        f"<li><b>{count} {status}</b> {escape(str(note))}</li>"
        for (status, note), count in why.most_common(MOST_NOTES)
    )
    return f"<details><summary>Why trials diverged or failed</summary><ul>{items}</ul></details>"


def hours(seconds: float) -> str:
    """A time as shown."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} h"

"""What the page's plots are drawn from, as plain data: searches, and where the time went."""

import math
from collections.abc import Iterable
from typing import Any

from orchestrator.leaderboard.board import Board, Row
from orchestrator.store.result import Result

# Where a sweep's time goes: to search trials by how they ended, and to finals.
SPENT = ("done", "stopped", "lost", "finals")


def searches(board: Board, trials: Iterable[Result]) -> list[list[dict[str, Any]]]:
    """The search trials of each row of the board, in its order, with what the plots show."""
    places = {row.study: i for i, row in enumerate(board.rows)}
    studies: list[list[dict[str, Any]]] = [[] for _ in places]
    for trial in trials:
        place = places.get(trial.study)
        if place is not None and trial.kind == "search":
            studies[place].append(_trial(trial, board.rows[place]))
    return studies


def cost(board: Board, trials: Iterable[Result]) -> list[dict[str, Any]]:
    """Seconds of training by method, in the board's order, and what they were spent on."""
    spent = {row.method: dict.fromkeys(SPENT, 0.0) for row in board.rows}
    for trial in trials:
        if trial.method in spent:
            ended = trial.status if trial.status in ("done", "stopped") else "lost"
            what = "finals" if trial.kind == "final" else ended
            spent[trial.method][what] += trial.seconds
    return [{"method": method, **seconds} for method, seconds in spent.items()]


def _trial(trial: Result, row: Row) -> dict[str, Any]:
    won = trial.status == "done" and trial.config == row.config
    slim = {
        "config": {name: _rounded(value) for name, value in trial.config.items()},
        "status": trial.status,
        "epochs": trial.epochs_run,
        "val": _rounded(trial.val_accuracy),
        "seconds": _rounded(trial.seconds),
        "curve": [
            [epoch, _rounded(accuracy)]
            for epoch, _, _, accuracy in trial.curve
            if accuracy is not None
        ],
    }
    for name, value in (("memory", trial.peak_memory), ("energy", trial.energy)):
        if value is not None:
            slim[name] = _rounded(float(value))
    if trial.note:
        slim["note"] = trial.note
    if won:
        slim["won"] = True
    return slim


def _rounded(value: Any) -> Any:
    """Five digits are more than a plot shows; a number that is none becomes null."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None

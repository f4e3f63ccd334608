"""The leaderboard: a projection of the result files, made anew at any time."""

import json
from dataclasses import replace

from orchestrator.leaderboard.board import Board, plain_board
from orchestrator.leaderboard.joint import join
from orchestrator.leaderboard.page import page
from orchestrator.leaderboard.rows_csv import rows_csv
from orchestrator.leaderboard.source import Source, source
from orchestrator.leaderboard.table import leaderboard
from orchestrator.store.folder import SweepFolder
from orchestrator.store.importance import importances_in

__all__ = ["board_of", "join", "leaderboard", "source", "write"]


def board_of(found: Source) -> Board:
    """The leaderboard of a sweep, or of several that are joined."""
    board = leaderboard(
        found.name,
        found.protocol,
        found.results,
        found.studies,
        found.groups,
        found.backbones,
        found.unreadable,
        found.predictions,
    )
    rows = tuple(replace(row, sweep=found.sweeps.get(row.study)) for row in board.rows)
    return replace(board, rows=rows, differences=tuple(found.differences))


def write(folder: SweepFolder, found: Source, board: Board) -> None:
    """Write leaderboard.json, .csv and .html into a folder, each atomically.

    Raises:
        InputError: the folder can't be written.
    """
    files = {
        "json": json.dumps(plain_board(board), indent=1, allow_nan=False),
        "csv": rows_csv(board),
        "html": page(board, found.results, importances_in(folder)),
    }
    for ending, text in files.items():
        folder.write(folder.path / f"leaderboard.{ending}", text.encode())
    folder.collect()

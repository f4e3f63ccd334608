"""The leaderboard: a projection of the result files, made anew at any time."""

import json
from collections.abc import Iterable

from orchestrator.leaderboard.board import Board, plain_board
from orchestrator.leaderboard.page import page
from orchestrator.leaderboard.rows_csv import rows_csv
from orchestrator.leaderboard.table import leaderboard
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result

__all__ = ["leaderboard", "write"]


def write(folder: SweepFolder, board: Board, results: Iterable[Result]) -> None:
    """Write leaderboard.json, .csv and .html into a sweep's folder, each atomically."""
    files = {
        "json": json.dumps(plain_board(board), indent=1, allow_nan=False),
        "csv": rows_csv(board),
        "html": page(board, list(results)),
    }
    for ending, text in files.items():
        folder.write(folder.path / f"leaderboard.{ending}", text.encode())

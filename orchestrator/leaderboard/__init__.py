"""The leaderboard: a projection of the result files, made anew at any time."""

import json
from collections.abc import Iterable

from orchestrator.contents import Contents
from orchestrator.leaderboard.board import Board, Protocol, plain_board
from orchestrator.leaderboard.page import page
from orchestrator.leaderboard.rows_csv import rows_csv
from orchestrator.leaderboard.table import leaderboard
from orchestrator.search.selection import metered_alike
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result

__all__ = ["board_of", "leaderboard", "write"]


def board_of(folder: SweepFolder, contents: Contents) -> Board:
    """The leaderboard of a sweep's folder."""
    tested = [result.id for result in contents.results.values() if result.kind == "final"]
    answers = {trial: found for trial in tested if (found := folder.predictions_of(trial))}
    final_on = contents.spec.protocol.final_on if contents.spec else None
    return leaderboard(
        contents.name,
        Protocol(final_on, contents.leak_meter, contents.seeds),
        _counted(contents),
        contents.studies,
        contents.groups,
        contents.backbones,
        contents.unreadable,
        answers,
    )


def write(folder: SweepFolder, contents: Contents, board: Board) -> None:
    """Write leaderboard.json, .csv and .html into a sweep's folder, each atomically.

    Raises:
        InputError: the folder can't be written.
    """
    files = {
        "json": json.dumps(plain_board(board), indent=1, allow_nan=False),
        "csv": rows_csv(board),
        "html": page(board, _counted(contents)),
    }
    for ending, text in files.items():
        folder.write(folder.path / f"leaderboard.{ending}", text.encode())
    folder.collect()


def _counted(contents: Contents) -> Iterable[Result]:
    return metered_alike(contents.results.values(), contents.leak_meter)

"""`arc-sweep leaderboard`: the table, the page and the figures, made anew from result files."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_folder, add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from orchestrator.leaderboard.board import Board
    from orchestrator.store.result import Result


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    add_json(parser)
    parser.add_argument("--latex", metavar="FILE", help="also write the tables as LaTeX")
    parser.add_argument("--png", metavar="FOLDER", help="also draw the plots as PNG files")
    parser.add_argument("--wandb", action="store_true", help="also have all of it online in W&B")


def run(options: argparse.Namespace) -> int:
    """Rebuild and show the leaderboard; returns the exit code."""
    from orchestrator import contents, leaderboard
    from orchestrator.commands.console import plain_console
    from orchestrator.leaderboard.board import plain_board
    from orchestrator.leaderboard.terminal import render
    from orchestrator.store.folder import SweepFolder, Unwritable

    folder = SweepFolder(options.folder)
    found = contents.read(folder)
    board = leaderboard.board_of(folder, found)
    try:
        leaderboard.write(folder, found, board)
    except Unwritable as error:  # a copy to look at
        print(f"{error}; the leaderboard is shown, not written", file=sys.stderr)
    if options.latex:
        _write_latex(board, Path(options.latex))
    if options.png:
        _draw_figures(board, found.results.values(), Path(options.png))
    if options.wandb:
        from orchestrator.tracking.upload import upload

        upload(folder, found, board)
    if options.json:
        print(json.dumps(plain_board(board)))
    else:
        plain_console().print(render(board))
    return DONE


def _write_latex(board: "Board", file: Path) -> None:
    from orchestrator.leaderboard.latex import latex

    try:
        file.write_text(latex(board), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--latex {file}: {error.strerror}") from error


def _draw_figures(board: "Board", results: "Iterable[Result]", place: Path) -> None:
    try:
        from orchestrator.leaderboard.figures import draw
    except ImportError as error:
        raise InputError(
            f"--png needs matplotlib ({error}): pip install 'arc-sweep[plots]', or matplotlib"
        ) from error
    try:
        drawn = draw(board, results, place)
    except OSError as error:
        raise InputError(f"--png {place}: {error.strerror}") from error
    print(f"{len(drawn)} figures in {place}/", file=sys.stderr)

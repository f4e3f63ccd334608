"""`arc-sweep leaderboard`: the table, the page and the figures, made anew from result files."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from orchestrator.leaderboard.board import Board
    from orchestrator.store.result import Result

EXAMPLE = "results/pets --latex table.tex --png plots/"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folders", nargs="+", metavar="DIR", help="sweeps' folders; of one, or all")
    add_json(parser)
    parser.add_argument(
        "--to", metavar="FOLDER", help="write page, JSON and CSV there instead of into DIR"
    )
    parser.add_argument(
        "--calibration", action="store_true", help="show balanced accuracy and calibration, too"
    )
    parser.add_argument("--latex", metavar="FILE", help="also write the tables as LaTeX")
    parser.add_argument("--png", metavar="FOLDER", help="also draw the plots as PNG files")
    parser.add_argument("--wandb", action="store_true", help="also have all of it online in W&B")


def run(options: argparse.Namespace) -> int:
    """Rebuild and show the leaderboard of one sweep or of several; returns the exit code."""
    from orchestrator import contents, leaderboard
    from orchestrator.commands.console import plain_console
    from orchestrator.leaderboard.board import plain_board
    from orchestrator.leaderboard.terminal import render
    from orchestrator.store.folder import SweepFolder, Unwritable

    folders = [SweepFolder(place) for place in options.folders]
    if options.wandb and len(folders) > 1:
        raise InputError("--wandb takes one DIR: W&B has each sweep's leaderboard beside its runs")
    found = [contents.read(folder) for folder in folders]
    joined = leaderboard.join(
        [leaderboard.source(*pair) for pair in zip(folders, found, strict=True)]
    )
    board = leaderboard.board_of(joined)
    if options.to:
        target = SweepFolder(options.to)
        target.path.mkdir(parents=True, exist_ok=True)
        leaderboard.write(target, joined, board)
    elif len(folders) > 1:
        print("shown, not written: --to FOLDER writes page, JSON and CSV", file=sys.stderr)
    else:
        try:
            leaderboard.write(folders[0], joined, board)
        except Unwritable as error:  # a copy to look at
            print(f"{error}; the leaderboard is shown, not written", file=sys.stderr)
    if options.latex:
        _write_latex(board, Path(options.latex))
    if options.png:
        _draw_figures(board, joined.results, Path(options.png))
    if options.wandb:
        from orchestrator.tracking.upload import upload

        upload(folders[0], found[0], board)
    if options.json:
        print(json.dumps(plain_board(board)))
    else:
        plain_console().print(render(board, options.calibration))
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

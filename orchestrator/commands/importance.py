"""`arc-sweep importance`: how much of the accuracies each method's hyperparameters explain."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_folder
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.store.importance import Importances

EXAMPLE = "results/pets --csv"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--csv", action="store_true", help="print CSV instead of a table")


def run(options: argparse.Namespace) -> int:
    """Show the shares, and keep them for the leaderboard's page; returns the exit code."""
    from orchestrator import contents
    from orchestrator.commands.console import plain_console
    from orchestrator.importance import importances, importances_csv
    from orchestrator.leaderboard.shares import CAPTION
    from orchestrator.store.folder import SweepFolder, Unwritable
    from orchestrator.store.importance import write_importances

    folder = SweepFolder(options.folder)
    found = importances(contents.read(folder))
    if not found.methods:
        raise InputError(f"{folder.place} has no method whose search trials tell what matters")
    try:
        write_importances(folder, found)
    except Unwritable as error:  # a copy to look at
        print(f"{error}; it is shown, not written", file=sys.stderr)
    if options.json:
        print(json.dumps(asdict(found)))
    elif options.csv:
        print(importances_csv(found), end="")
    else:
        console = plain_console()
        console.print(_table(found))
        console.print(CAPTION, style="dim")
    return DONE


def _table(found: "Importances") -> "Table":
    from rich.table import Table

    from orchestrator.leaderboard.shares import doubt, hyperparameters, line

    names = hyperparameters(found)
    several = len({row.backbone for row in found.methods}) > 1
    table = Table(title="what matters: shares in %", box=None, title_justify="left")
    for column in ("method", *["backbone"] * several):
        table.add_column(column, no_wrap=True)
    for column in (*names, "together", "tasks", "trials", "unseen"):
        table.add_column(column, justify="right")
    for row in found.methods:
        known = row.importance
        unseen = "" if known.unseen is None else f"{known.unseen:.0f}"
        table.add_row(
            row.method,
            *[row.backbone] * several,
            *line(row, names),
            str(known.tasks),
            str(known.trials),
            unseen,
            style="dim" if doubt(row) else "",
        )
    return table

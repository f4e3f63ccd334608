"""`arc-sweep winners`: each study's winner, as a table and as a sweep file that has it fixed."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_folder
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.winners import Winner

NBSP = "\u00a0"
EXAMPLE = "results/pets --output winners.yaml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the sweep file (NAME-winners.yaml)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--csv", action="store_true", help="print CSV instead of a table")


def run(options: argparse.Namespace) -> int:
    """Show the winners and write the sweep file; returns the exit code."""
    from orchestrator import contents
    from orchestrator.commands.console import plain_console
    from orchestrator.store.folder import SweepFolder
    from orchestrator.winners import sweep_file, winners, winners_csv

    folder = SweepFolder(options.folder)
    found = contents.read(folder)
    rows = winners(found)
    if not rows:
        raise InputError(f"no study of {folder.place} has a winner yet: arc-sweep run goes on")
    if options.json:
        print(json.dumps({"sweep": found.name, "winners": list(map(asdict, rows))}))
    elif options.csv:
        print(winners_csv(rows), end="")
    else:
        plain_console().print(_table(found.name, rows))
    if found.spec is None:
        raise InputError(f"{folder.spec} can't be read: no sweep file can be made without it")
    won = {row.study for row in rows}
    for study in found.studies:
        if study not in won:
            print(f"no winner yet: {study}; the sweep file searches it", file=sys.stderr)
    out = Path(options.output or f"{found.name}-winners.yaml")
    _write(out, sweep_file(found.spec, rows))
    print(f"wrote {out}; to train them again: arc-sweep run {out}", file=sys.stderr)
    return DONE


def _table(name: str, rows: "Sequence[Winner]") -> "Table":
    from rich.table import Table

    from arc_train.hyperparameters.space import format_config

    table = Table(title=f"winners of {name}", box=None, title_justify="left", padding=(0, 2, 0, 0))
    several = len({row.backbone for row in rows}) > 1
    for column in ("task", *["backbone"] * several, "method", "configuration"):
        table.add_column(column)
    for column in ("val", "test", "search"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        test = "" if row.test_accuracy is None else f"{row.test_accuracy:.1f}"
        table.add_row(
            row.task,
            *[row.backbone] * several,
            row.method,
            # Broken between hyperparameters only.
            format_config(row.config).replace(" ", NBSP).replace(2 * NBSP, "  "),
            f"{row.val_accuracy:.1f}",
            test,
            f"{row.searched}/{'?' if row.expected is None else row.expected}",
        )
    return table


def _write(out: Path, text: str) -> None:
    """Write the sweep file, unless one that differs is there: it may have been edited."""
    try:
        if out.exists() and out.read_text(encoding="utf-8") != text:
            raise InputError(f"{out} exists: remove it, or name another file with --output")
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't write {out}: {error.strerror}") from error

"""`arc-sweep status`: how far a sweep is, from its folder alone."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.commands.arguments import add_folder, add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.status import StudyStatus


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Show the state of a sweep's folder; returns the exit code."""
    from orchestrator.commands.console import plain_console
    from orchestrator.status import status

    state = status(options.folder)
    if options.json:
        print(json.dumps(asdict(state)))
        return DONE
    console = plain_console()
    counts = ", ".join(f"{count} {name}" for name, count in state.statuses.items())
    driver = "a driver is running" if state.running else "no driver is running"
    console.print(
        f"{state.sweep}: {state.complete} of {len(state.studies)} studies complete, "
        f"{driver}; trials: {counts or 'none yet'}",
        soft_wrap=True,
        markup=False,
    )
    console.print(_study_table(state.studies))
    for pack in state.packs_begun:
        console.print(
            f"begun: {pack.kind} {pack.study}, {pack.ended} of {pack.trials} ended",
            soft_wrap=True,
            markup=False,
        )
    for fault in state.unreadable:
        console.print(f"left aside: {fault}", soft_wrap=True, markup=False)
    return DONE


def _of(count: int, expected: int | None) -> str:
    return f"{count}/{'?' if expected is None else expected}"


def _study_table(studies: Iterable["StudyStatus"]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("study", "search", "finals", "best val"):
        table.add_column(column, no_wrap=True, justify="left" if column == "study" else "right")
    for study in studies:
        best = study.best_val_accuracy
        table.add_row(
            Text(study.study),
            _of(study.search, study.search_expected),
            _of(study.finals, study.finals_expected),
            "" if best is None else f"{best:.1f}",
        )
    return table

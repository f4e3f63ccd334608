"""`arc-sweep status`: how far a sweep is, from its folder alone."""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.commands.arguments import add_folder, add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from orchestrator.status import StudyStatus, SweepStatus

EXAMPLE = "results/pets --watch"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=10.0,
        metavar="SECONDS",
        help="look again every so many seconds (10) until the sweep is complete, or its run ends",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Show the state of a sweep's folder; returns the exit code."""
    from orchestrator.commands.console import plain_console

    console = plain_console()
    for state in _states(options.folder, options.watch):
        if options.json:
            print(json.dumps(asdict(state)), flush=True)
            continue
        if options.watch and console.is_terminal:
            console.clear()
        _show(state, console)
    return DONE


def seconds(text: str) -> float:
    """A number of seconds to wait, as argparse reads it."""
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value


def _states(folder: str, every: float | None) -> Iterator["SweepStatus"]:
    """The state of a sweep; looking again every few seconds, each that differs from the last.

    Until it has ended, or the driver that was at work is gone, whatever it left.
    """
    from orchestrator.status import status

    state = status(folder)
    yield state
    driven = state.running
    while every and not state.ended and (state.running or not driven):
        time.sleep(every)
        last, state = state, status(folder)
        driven = driven or state.running
        if state != last:
            yield state


def _show(state: "SweepStatus", console: "Console") -> None:
    counts = ", ".join(f"{count} {name}" for name, count in state.statuses.items())
    driver = "a driver is running" if state.running else "no driver is running"
    console.print(
        f"{state.sweep}: {state.complete} of {len(state.studies)} studies complete, "
        f"{driver}; trials: {counts or 'none yet'}",
        soft_wrap=True,
    )
    console.print(_study_table(state.studies))
    for pack in state.packs_begun:
        console.print(
            f"begun: {pack.kind} {pack.study}, {pack.ended} of {pack.trials} ended",
            soft_wrap=True,
        )
    for fault in state.unreadable:
        console.print(f"left aside: {fault}", soft_wrap=True)


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

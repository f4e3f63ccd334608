"""`arc-sweep replay`: what a search algorithm would have found among finished trials."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.search.replay import Regret
    from orchestrator.search.trial_table import Gap


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "table", metavar="TABLE", help="CSV: task,method,rank,lr,wd,other,val_loss,val_accuracy"
    )
    parser.add_argument("--algorithm", default="portfolio", help="portfolio, tpe, random or grid")
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="largest budget (16)")
    parser.add_argument("--seeds", type=int, default=1, metavar="S", help="repetitions (1)")
    parser.add_argument("--rounds", type=int, default=2, metavar="R", help="as search.rounds (2)")
    parser.add_argument(
        "--finals", metavar="TABLE", help="CSV of final tests (finals.csv beside TABLE)"
    )
    add_json(parser, instead_of="tables")


def run(options: argparse.Namespace) -> int:
    """Show the regret after so many trials, by method; returns the exit code."""
    from arc_train.hyperparameters.searchers import SEARCHERS
    from orchestrator.commands.console import plain_console
    from orchestrator.search.replay import replay
    from orchestrator.search.trial_table import gaps, read

    if options.algorithm not in SEARCHERS:
        raise InputError(
            f"unknown algorithm {options.algorithm!r} at --algorithm; "
            f"allowed: {', '.join(SEARCHERS)}"
        )
    for name in ("trials", "seeds", "rounds"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} must be at least 1, found {getattr(options, name)}")
    beside = Path(options.table).with_name("finals.csv")
    finals = options.finals or (beside if beside.is_file() else None)
    inflation = gaps(finals) if finals else []
    table = read(options.table)
    found = replay(table, options.algorithm, options.trials, options.seeds, options.rounds)
    if options.json:
        content = {"regret": list(map(asdict, found)), "gaps": list(map(asdict, inflation))}
        print(json.dumps({"algorithm": options.algorithm, **content}))
        return DONE
    console = plain_console()
    console.print(_regret_table(options.algorithm, found))
    if inflation:
        console.print()
        console.print(_gap_table(inflation))
    return DONE


def _regret_table(algorithm: str, rows: list["Regret"]) -> "Table":
    from rich.table import Table

    table = Table(
        title=f"validation accuracy below the best of the full grid, in points, after so many "
        f"trials: {algorithm} (random)",
        box=None,
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for column in ("tasks", "grid", *rows[0].regret):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            f"{regret:.2f} ({row.random[budget]:.2f})" for budget, regret in row.regret.items()
        ]
        style = "bold" if row.method == "all" else ""
        table.add_row(row.method, str(row.cells), f"{row.grid:.0f}", *cells, style=style)
    return table


def _gap_table(rows: list["Gap"]) -> "Table":
    from rich.table import Table

    table = Table(
        title="test accuracy as it is, and as choosing the epoch on the test set would have it",
        box=None,
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for column in ("tasks", "last epoch", "best epoch on test", "gap", "largest"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        accuracies = (row.last, row.best_epoch, row.gap, row.largest_gap)
        table.add_row(row.method, str(row.tasks), *(f"{value:.2f}" for value in accuracies))
    return table

"""`arc-sweep replay`: what a search, or a rule for stopping, would have found in finished trials.

Each has its own table: trials as CSV, or a folder of whole learning curves.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.search.replay import Regret
    from orchestrator.search.stopping import Cost, Halving
    from orchestrator.search.trial_table import Gap

RULES = ("20,2", "20,3", "15,2", "10,2", "10,3", "5,2,2")  # shown where none is named
SEARCH = {"algorithm": "portfolio", "trials": 16, "seeds": 1, "rounds": 2, "finals": None}
EXAMPLE = "trials.csv --algorithm portfolio --trials 16"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "table",
        metavar="TABLE",
        help="CSV: task,method,rank,lr,wd,other,val_loss,val_accuracy; "
        "or a folder of curves (benchmarks/record_curves.py)",
    )
    search = parser.add_argument_group("search, on a CSV", argument_default=argparse.SUPPRESS)
    search.add_argument("--algorithm", help="portfolio (default), tpe, random or grid")
    search.add_argument("--trials", type=int, metavar="N", help="largest budget (16)")
    search.add_argument("--seeds", type=int, metavar="S", help="repetitions (1)")
    search.add_argument("--rounds", type=int, metavar="R", help="as search.rounds (2)")
    search.add_argument(
        "--finals", metavar="TABLE", help="CSV of final tests (finals.csv beside TABLE)"
    )
    stopping = parser.add_argument_group("stopping, on a folder of curves")
    stopping.add_argument(
        "--halving",
        metavar="START,ETA[,RUNGS]",
        action="append",
        help="as search.halving, START in percent of the epochs; may be repeated",
    )
    add_json(parser, instead_of="tables")


def run(options: argparse.Namespace) -> int:
    """Show what the search or the rules would have cost; returns the exit code.

    Raises:
        InputError: the table can't be read, or an option isn't one of its kind.
    """
    given = vars(options)
    if Path(options.table).is_dir():
        for name in SEARCH:
            if name in given:
                raise InputError(f"--{name} is for a CSV of trials; {options.table} is a folder")
        return _replay_stopping(options)
    if options.halving:
        raise InputError(
            f"--halving is replayed on a folder of curves (benchmarks/record_curves.py); "
            f"{options.table} is none"
        )
    return _replay_search(argparse.Namespace(**SEARCH | given))


def _replay_search(options: argparse.Namespace) -> int:
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


def _replay_stopping(options: argparse.Namespace) -> int:
    from orchestrator.commands.console import plain_console
    from orchestrator.search.curves import Curves
    from orchestrator.search.stopping import replay_stopping

    rules = [_halving(text) for text in options.halving or RULES]
    paths = sorted(Path(options.table).glob("*.npz"))
    if not paths:
        raise InputError(
            f"{options.table}: no recorded curves (*.npz); benchmarks/record_curves.py records them"
        )
    curves = [Curves.read(path) for path in paths]
    costs = replay_stopping(curves, rules)
    if options.json:
        print(json.dumps({"halving": list(map(asdict, costs))}))
        return DONE
    tasks = len({each.study.task for each in curves})
    plain_console().print(_cost_table(f"{len(curves)} studies of {tasks} tasks", costs))
    return DONE


def _halving(text: str) -> "Halving":
    """The rule that stands at --halving."""
    from orchestrator.search.stopping import Halving

    try:
        start, eta, *rungs = (int(part) for part in text.split(","))
        if not (
            1 <= start < 100 and eta >= 2 and (not rungs or (len(rungs) == 1 and rungs[0] >= 1))
        ):
            raise ValueError(text)
    except ValueError:
        raise InputError(
            f"--halving takes START,ETA or START,ETA,RUNGS: START from 1 to 99 percent of the "
            f"epochs, ETA at least 2, RUNGS at least 1; found {text!r}"
        ) from None
    return Halving(start, eta, *rungs)


def _cost_table(of: str, costs: list["Cost"]) -> "Table":
    table = _table(
        "test accuracy that halving costs, in points, of a search of 16 trials in two packs "
        f"and of 8 in one: mean (95 %), worst; {of}",
        "halving",
        ("16 trials", "worst", "8 trials", "worst", "epochs"),
    )
    for cost in costs:
        table.add_row(
            cost.rule,
            _points(cost.lost, cost.interval),
            f"{cost.worst:.2f}",
            _points(cost.lost_in_one, cost.interval_in_one),
            f"{cost.worst_in_one:.2f}",
            f"{cost.epochs:.1f} %",
        )
    return table


def _points(mean: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _regret_table(algorithm: str, rows: list["Regret"]) -> "Table":
    table = _table(
        "validation accuracy below the best of the full grid, in points, after so many "
        f"trials: {algorithm} (random)",
        "method",
        ("tasks", "grid", *rows[0].regret),
    )
    for row in rows:
        cells = [
            f"{regret:.2f} ({row.random[budget]:.2f})" for budget, regret in row.regret.items()
        ]
        style = "bold" if row.method == "all" else ""
        table.add_row(row.method, str(row.cells), f"{row.grid:.0f}", *cells, style=style)
    return table


def _gap_table(rows: list["Gap"]) -> "Table":
    table = _table(
        "test accuracy as it is, and as choosing the epoch on the test set would have it",
        "method",
        ("tasks", "last epoch", "best epoch on test", "gap", "largest"),
    )
    for row in rows:
        accuracies = (row.last, row.best_epoch, row.gap, row.largest_gap)
        table.add_row(row.method, str(row.tasks), *(f"{value:.2f}" for value in accuracies))
    return table


def _table(title: str, rows: str, figures: Iterable[str]) -> "Table":
    """An empty table: what its rows are, and the columns of figures."""
    from rich.table import Table

    table = Table(title=title, box=None, title_justify="left")
    table.add_column(rows, no_wrap=True)
    for column in figures:
        table.add_column(column, justify="right", no_wrap=True)
    return table

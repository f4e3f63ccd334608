"""`arc-sweep methods`: the methods, what is searched of each, and their trained parameters."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.commands.arguments import add_json
from orchestrator.commands.exit_codes import DONE
from orchestrator.slow_imports import slow_imports

if TYPE_CHECKING:
    from rich.table import Table

    from arc_train.methods.counts import Count

EXAMPLE = "--json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Show the methods; returns the exit code."""
    with slow_imports():
        from arc_train.methods import METHODS, recommended
        from arc_train.methods.counts import counts
        from orchestrator.commands.console import plain_console

    found = counts()
    if options.json:
        methods = {
            name: {
                **asdict(recommended(name)),
                "family": method.family,
                "options": dict(method.options),
            }
            for name, method in METHODS.items()
        }
        print(json.dumps({"methods": methods, "counts": [asdict(count) for count in found]}))
        return DONE
    console = plain_console()
    console.print(_space_table())
    for backbone in dict.fromkeys(count.backbone for count in found):
        table, notes = _count_table(backbone, [c for c in found if c.backbone == backbone])
        console.print()
        console.print(table)
        for number, note in enumerate(notes, start=1):
            console.print(f"({number}) {note}", style="dim", soft_wrap=True)
    return DONE


def _space_table() -> "Table":
    from rich.table import Table

    from arc_train.hyperparameters.space import format_config
    from arc_train.methods import METHODS, recommended

    table = Table(title="recommended search spaces", box=None, title_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column("family")
    table.add_column("space; variants that a sweep may fix")
    table.add_column("tried first")
    for name, method in METHODS.items():
        searched = "  ".join(_dimension(*d) for d in recommended(name).space.items())
        variants = "  ".join(
            _dimension(key, list(values)) for key, values in method.options.items()
        )
        table.add_row(
            name,
            method.family,
            f"{searched}; {variants}" if variants else searched,
            format_config(recommended(name).first),
        )
    return table


def _dimension(name: str, space: Any) -> str:
    """`lr 0.001..0.1 log`, `rank 8|16`, `layers 4`."""
    from arc_train.hyperparameters.space import format_value

    if isinstance(space, dict):
        ((scale, (low, high)),) = space.items()
        return f"{name} {low:g}..{high:g} {scale}"
    values = space if isinstance(space, list) else [space]
    return f"{name} {'|'.join(map(format_value, values))}"


def _count_table(backbone: str, counts: "Iterable[Count]") -> "tuple[Table, list[str]]":
    """Trained parameters beside the published figures in millions; and notes on the latter."""
    from rich.table import Table

    table = Table(
        title=f"{backbone}: trained parameters; with the head, as mean over the tasks; "
        "as printed, in millions",
        box=None,
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    for column in ("method", "no head", "VTAB-1k", "printed", "FGVC", "printed"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    notes = []
    for count in counts:
        short = {"rank": "r", "tokens": "p", "layers": "k"}
        setting = "".join(f" {short[name]}{value}" for name, value in count.setting.items())
        row = [f"{count.method}{setting}", f"{count.adapter:,}"]
        for benchmark in ("vtab", "fgvc"):
            printed = count.published.get(benchmark)
            mark = ""
            if benchmark in count.notes:
                notes.append(f"{count.method}: {count.notes[benchmark]}")
                mark = f" ({len(notes)})"
            row += [f"{getattr(count, benchmark):,.0f}", f"{printed}{mark}" if printed else ""]
        table.add_row(*row)
    return table, notes

"""`arc-sweep tasks`: what a sweep can name, and what of it is on this machine."""

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

    from arc_train.tasks.ready import Ready

EXAMPLE = "--json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--root", metavar="DIR", help="show what is ready below this data.root")
    parser.add_argument("--cache", metavar="DIR", help="the cache to look into ($ARC_SWEEP_CACHE)")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Show the tasks and groups; returns the exit code."""
    from arc_train.tasks.catalog import catalog, groups
    from orchestrator.commands.console import plain_console

    ready = _find_ready(options.root, options.cache) if options.root else {}
    if options.json:
        tasks = [
            asdict(task) | ({"ready": asdict(ready[key])} if ready else {})
            for key, task in catalog().items()
        ]
        print(json.dumps({"tasks": tasks, "groups": groups()}))
        return DONE
    console = plain_console()
    console.print(_ready_table(ready) if ready else _task_table())
    for key, found in ready.items():
        if found.lists in ("wrong", "other sizes"):
            style = "red" if found.lists == "wrong" else "dim"
            console.print(f"{key}: {found.detail}", style=style, soft_wrap=True, markup=False)
        elif found.lists == "not found" and catalog()[key].note:
            console.print(f"{key}: {catalog()[key].note}", style="dim", soft_wrap=True)
    named = ", ".join(f"{name} ({len(keys)})" for name, keys in groups().items())
    console.print(f"groups: {named}")
    return DONE


def _find_ready(root: str, directory: str | None) -> "dict[str, Ready]":
    """By task, what this machine has of it."""
    from arc_train.tasks import cache
    from arc_train.tasks.catalog import catalog
    from arc_train.tasks.ready import inspect_task

    place = Path(root).expanduser()
    if not place.is_dir():
        raise InputError(f"--root {place} is no folder")
    folder = Path(directory).expanduser() if directory else cache.default_folder()
    return {key: inspect_task(task, place, folder) for key, task in catalog().items()}


SIZES = ("classes", "train", "val", "test")


def _task_table() -> "Table":
    from arc_train.tasks.catalog import catalog

    table = _table("key", "name")
    table.add_column("a class is", no_wrap=True, ratio=1)
    for task in catalog().values():
        sizes = [f"{getattr(task, size):,}" for size in SIZES]
        table.add_row(task.key, task.name, *sizes, task.label)
    return table


def _ready_table(ready: "dict[str, Ready]") -> "Table":
    from arc_train.tasks.catalog import catalog

    table = _table("key", "lists", "cached px")
    for task in catalog().values():
        sizes = [f"{getattr(task, size):,}" for size in SIZES]
        found = ready[task.key]
        table.add_row(task.key, found.lists, " ".join(map(str, found.cached)), *sizes)
    return table


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for column in SIZES:
        table.add_column(column, no_wrap=True, justify="right")
    return table

"""The command line. Imports nothing heavy until a command needs it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DONE, FAILED_TRIALS, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return DONE
    except ValueError as error:
        if type(error).__name__ != "InputError":  # its module imports torch
            raise
        print(f"arc-sweep: {error}", file=sys.stderr)
        return BAD_INPUT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arc-sweep",
        description="Sweeps of parameter-efficient fine-tuning for vision transformers.",
    )
    from orchestrator import __version__

    parser.add_argument("--version", action="version", version=f"arc-sweep {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        return sub

    for name, command, summary in (
        ("run", _run, "run what is missing of a sweep, then show its leaderboard"),
        ("plan", _plan, "what a sweep will cost, before anything runs"),
    ):
        sub = add(name, command, summary)
        sub.add_argument("spec", metavar="SPEC", help="the sweep's YAML file")
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="overrides",
            help="override a key of the file, e.g. --set search.trials=4 (repeatable)",
        )
        sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("leaderboard", _leaderboard, "rebuild the leaderboard from a sweep's result files")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("tasks", _tasks, "the tasks and groups a sweep can name")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("methods", _methods, "the methods and their recommended search spaces")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from orchestrator import sweep
    from orchestrator.leaderboard.terminal import render
    from orchestrator.progress import Progress
    from orchestrator.spec import load

    spec = load(options.spec, options.overrides)
    console = Console(file=sys.stderr if options.json else sys.stdout)
    ended = sweep.run(spec, Progress(console))
    if options.json:
        print(json.dumps(ended.board))
    else:
        console.print(render(ended.board))
        _where(console, spec.folder, ended)
    if ended.problem:
        print(f"arc-sweep: {ended.problem}", file=sys.stderr)
    if ended.interrupted:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return FAILED_TRIALS if ended.statuses.get("failed") else DONE


def _where(console: Any, folder: Path, ended: Any) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(ended.statuses.items()))
    console.print(f"{ended.trained} trials trained now; in all {counts or 'none'}")
    console.print(f"results      {folder}/trials/")
    console.print(f"leaderboard  {folder}/leaderboard.html (also .json, .csv)")
    if (folder / "wandb").is_dir():
        console.print(f"W&B runs     {folder}/wandb/")


def _plan(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from orchestrator.plan import cost, task_sizes
    from orchestrator.spec import load

    spec = load(options.spec, options.overrides)
    counts = asdict(cost(spec, task_sizes(spec)))
    if options.json:
        print(json.dumps(counts))
        return DONE
    table = Table(title=f"plan of {spec.name}", show_header=False, box=None)
    for name, count in counts.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    Console().print(table)
    return DONE


def _leaderboard(options: argparse.Namespace) -> int:
    from rich.console import Console

    from arc_train.errors import InputError
    from orchestrator.folder import SweepFolder
    from orchestrator.leaderboard.terminal import render
    from orchestrator.spec import load
    from orchestrator.sweep import project

    folder = SweepFolder(options.folder)
    if not folder.spec.is_file():
        raise InputError(f"{options.folder} is not a sweep folder: it has no spec.yaml")
    board = project(load(folder.spec), folder)
    if options.json:
        print(json.dumps(board))
    else:
        Console().print(render(board))
    return DONE


def _tasks(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from arc_train.tasks.catalog import catalog, groups

    if options.json:
        print(json.dumps({"tasks": [asdict(t) for t in catalog().values()], "groups": groups()}))
        return DONE
    table = Table(title="tasks", box=None)
    for column in ("key", "name", "group", "classes", "train", "val", "test"):
        table.add_column(column, justify="left" if column in ("key", "name", "group") else "right")
    for task in catalog().values():
        sizes = (task.classes, task.train, task.val, task.test)
        table.add_row(task.key, task.name, task.group, *(f"{size:,}" for size in sizes))
    console = Console()
    console.print(table)
    console.print(
        "groups: " + ", ".join(f"{name} ({len(keys)})" for name, keys in groups().items())
    )
    return DONE


def _methods(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from arc_train.methods import METHODS, default_spaces

    if options.json:
        print(json.dumps({name: default_spaces()[name] for name in METHODS}))
        return DONE
    table = Table(title="methods and their recommended search spaces", box=None)
    table.add_column("method")
    table.add_column("space")
    for name in METHODS:
        space = default_spaces()[name]
        table.add_row(name, "  ".join(f"{key}: {value}" for key, value in space.items()))
    Console().print(table)
    return DONE


if __name__ == "__main__":
    sys.exit(main())

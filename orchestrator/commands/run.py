"""`arc-sweep run`: what is missing of a sweep, here or as a job of a Ray cluster."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_json, add_spec
from orchestrator.commands.exit_codes import BAD_INPUT, DONE, FAILED_TRIALS, INTERRUPTED
from orchestrator.slow_imports import slow_imports

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.spec import Spec
    from orchestrator.sweep import Ended

EXAMPLE = "my.yaml --set search.trials=4"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_spec(parser)
    add_json(parser)
    parser.add_argument(
        "--submit",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="run it as a job of the Ray cluster whose dashboard is at ADDRESS "
        "($RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, http://127.0.0.1:8265); it goes on when "
        "you stop following",
    )


def run(options: argparse.Namespace) -> int:
    """Run the sweep and show its leaderboard; returns the exit code."""
    if options.submit is not None:
        return _submit(options)
    from orchestrator.cluster.address import running_cluster
    from orchestrator.cluster.interrupt import catch_interrupts, leave_on_interrupt

    leave_on_interrupt()  # before the slow imports, so that they can be interrupted too
    running_cluster()  # nothing is prepared for a cluster that can't be joined

    with slow_imports():
        from orchestrator import sweep
        from orchestrator.commands.console import plain_console
        from orchestrator.leaderboard.board import plain_board
        from orchestrator.leaderboard.terminal import render
        from orchestrator.progress import Progress
        from orchestrator.spec import load
        from orchestrator.store.folder import Unwritable

    catch_interrupts()
    spec = load(options.spec, options.overrides)
    console = plain_console(sys.stderr if options.json else None)
    try:
        ended = sweep.run(spec, Progress(console))
    except Unwritable as error:
        raise InputError(
            f"{error}; what is finished is kept: mend that, and the same command goes on"
        ) from error
    if options.json:
        print(json.dumps(plain_board(ended.board)))
    else:
        console.print(render(ended.board))
        _print_places(console, spec.place, ended)
    return exit_code(spec, ended)


def exit_code(spec: "Spec", ended: "Ended") -> int:
    """Say what is not as it was asked for; returns the exit code."""
    lost = f"no winner in {', '.join(ended.lost)}" if ended.lost else None
    for said in (ended.problem, lost, ended.unsent):
        if said:
            print(f"arc-sweep: {said}", file=sys.stderr)
    if ended.interrupted:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    if ended.problem:
        return BAD_INPUT
    if not ended.complete:
        print("the sweep is not complete: the same command makes what is missing", file=sys.stderr)
    unsent = ended.unsent and spec.wandb.mode == "online"
    return FAILED_TRIALS if not ended.complete or lost or unsent else DONE


def _submit(options: argparse.Namespace) -> int:
    from orchestrator.cluster.submit import Detached, submit

    if options.json:
        raise InputError(
            "--json doesn't go with --submit: `arc-sweep leaderboard DIR --json` on the cluster"
        )
    try:
        code = submit(options.spec, options.overrides, options.submit)
    except Detached as detached:
        print(detached, file=sys.stderr)
        return INTERRUPTED
    return INTERRUPTED if code is None else code


def _print_places(console: "Console", place: str, ended: "Ended") -> None:
    """Say how many trials there are, and where their results lie."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(ended.statuses.items()))
    console.print(f"{ended.trained} trials trained now; in all {counts or 'none'}")
    for line in (
        f"results      {place}/trials/",
        f"leaderboard  {ended.folder}/leaderboard.html (also .json, .csv)",
        *([f"W&B runs     {ended.folder}/wandb/"] if (ended.folder / "wandb").is_dir() else []),
    ):
        console.print(line, soft_wrap=True)

"""The command line: its commands, and how errors and interrupts end them."""

import argparse
import logging
import os
import sys
from importlib import import_module
from typing import NoReturn

from arc_train.errors import InputError
from orchestrator import __version__
from orchestrator.cluster.interrupt import catch_interrupts, leave_on_interrupt
from orchestrator.commands.exit_codes import BAD_INPUT, DONE, INTERRUPTED

# Modules of orchestrator.commands: arguments(parser), run(options) and EXAMPLE, words that follow.
COMMANDS = {
    "init": "look at a folder of images and write a sweep file for it",
    "run": "run what is missing of a sweep, then show its leaderboard",
    "plan": "what a sweep will cost, before anything runs",
    "status": "how far a sweep is, from another terminal",
    "leaderboard": "rebuild the leaderboard from a sweep's result files",
    "compare": "where two methods differ: tasks, classes, test images",
    "dashboard": "create or update a sweep's workspace and report in W&B",
    "importance": "how much of the accuracies each method's hyperparameters explain",
    "winners": "each study's best configuration, and a sweep file that has them fixed",
    "export": "take a study's winner out of a sweep's folder",
    "replay": "search algorithms, or rules for stopping, on finished trials",
    "data": "check a machine's images, or prepare its cache",
    "tasks": "the tasks and groups a sweep can name, and what is here of them",
    "methods": "the methods and their recommended search spaces",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    logging.raiseExceptions = False  # a library's log on a full disk would be a page of tracebacks
    if arguments is None:
        leave_on_interrupt()
    try:
        if "_ARGCOMPLETE" in os.environ:
            _complete()
        options = _parser(words).parse_args(words)
        if arguments is None:
            catch_interrupts()
        return int(options.run(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return DONE
    except InputError as error:
        print(f"arc-sweep: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if error.filename is None:
            raise
        print(f"arc-sweep: {error.filename}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT


def _complete() -> NoReturn:
    """Tell a shell how its line may go on, and exit; in the protocol of argcomplete."""
    import argcomplete

    argcomplete.autocomplete(_parser(os.environ.get("COMP_LINE", "").split()))
    sys.exit(BAD_INPUT)


def _parser(words: list[str]) -> argparse.ArgumentParser:
    """The parser of these words. Only a command among them is imported, so that help is quick."""
    parser = argparse.ArgumentParser(
        "arc-sweep", description="Sweeps of parameter-efficient fine-tuning for vision transformers"
    )
    parser.add_argument("--version", action="version", version=f"arc-sweep {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in words:
            module = import_module(f"orchestrator.commands.{name}")
            command.set_defaults(run=module.run)
            command.epilog = f"example: arc-sweep {name} {module.EXAMPLE}"
            command.formatter_class = argparse.RawDescriptionHelpFormatter  # it stays on its line
            module.arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())

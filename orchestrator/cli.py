"""The command line: its commands, and how errors and interrupts end them."""

import argparse
import logging
import os
import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

from arc_train.errors import InputError
from orchestrator import __version__
from orchestrator.cluster.interrupt import catch_interrupts, leave_on_interrupt
from orchestrator.commands.exit_codes import BAD_INPUT, DONE, INTERRUPTED


class Command(NamedTuple):
    """A module of orchestrator.commands with `arguments(parser)` and `run(options)`.

    example: what may follow `arc-sweep` and the command's name.
    """

    summary: str
    example: str


COMMANDS = {
    "init": Command(
        "look at a folder of images and write a sweep file for it",
        "~/beans --output beans.yaml",
    ),
    "run": Command(
        "run what is missing of a sweep, then show its leaderboard",
        "my.yaml --set search.trials=4",
    ),
    "plan": Command(
        "what a sweep will cost, before anything runs",
        "my.yaml --gpu h100 --price 2.5",
    ),
    "status": Command("how far a sweep is, from another terminal", "results/pets --watch"),
    "leaderboard": Command(
        "rebuild the leaderboard from a sweep's result files",
        "results/pets --latex table.tex --png plots/",
    ),
    "compare": Command(
        "where two methods differ: tasks, classes, test images",
        "results/pets arc lora",
    ),
    "dashboard": Command("create or update a sweep's workspace and report in W&B", "results/pets"),
    "importance": Command(
        "how much of the accuracies each method's hyperparameters explain",
        "results/pets --csv",
    ),
    "winners": Command(
        "each study's best configuration, and a sweep file that has them fixed",
        "results/pets --output winners.yaml",
    ),
    "export": Command(
        "take a study's winner out of a sweep's folder",
        "results/pets vit_base_patch16_224.augreg_in21k/arc/vtab/pets --out pets --fold",
    ),
    "replay": Command(
        "search algorithms, or rules for stopping, on finished trials",
        "trials.csv --algorithm portfolio --trials 16",
    ),
    "data": Command(
        "check a machine's images, or prepare its cache",
        "prepare --download vtab --root ~/data",
    ),
    "tasks": Command("the tasks and groups a sweep can name, and what is here of them", "--json"),
    "methods": Command("the methods and their recommended search spaces", "--json"),
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
        code: int = options.run(options)
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
    return code


def _complete() -> NoReturn:
    """Tell a shell how its line may go on, and exit; in the protocol of argcomplete."""
    import argcomplete

    argcomplete.autocomplete(_parser(os.environ.get("COMP_LINE", "").split()))
    sys.exit(BAD_INPUT)


def _parser(words: list[str]) -> argparse.ArgumentParser:
    """The parser of these words. Only a command among them is imported, so that help is quick."""
    parser = argparse.ArgumentParser(
        prog="arc-sweep",
        description="Sweeps of parameter-efficient fine-tuning for vision transformers.",
    )
    parser.add_argument("--version", action="version", version=f"arc-sweep {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (summary, example) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: arc-sweep {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,  # the example stays on its line
        )
        if name in words:
            module = import_module(f"orchestrator.commands.{name}")
            command.set_defaults(run=module.run)
            module.arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())

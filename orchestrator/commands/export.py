"""`arc-sweep export`: a study's winner, as an adapter or as a plain checkpoint."""

import argparse
from pathlib import Path

from orchestrator.commands.arguments import add_folder
from orchestrator.commands.exit_codes import DONE


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    parser.add_argument(
        "study", metavar="STUDY", help="backbone/method/task, as the results name it"
    )
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="folder to write")
    parser.add_argument(
        "--seed", type=int, help="which of the winner's finals (default: the first)"
    )
    parser.add_argument(
        "--fold",
        action="store_true",
        help="merge it into a plain model that timm.create_model('local-dir:OUT') loads",
    )


def run(options: argparse.Namespace) -> int:
    """Write the winner into a folder; returns the exit code."""
    from orchestrator.export import export

    exported = export(options.folder, options.study, Path(options.out), options.seed, options.fold)
    print(f"{exported.path}: {exported.what}")
    return DONE

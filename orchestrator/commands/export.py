"""`arc-sweep export`: a study's winner, as an adapter or as a plain checkpoint."""

import argparse
import tempfile
from pathlib import Path

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_folder
from orchestrator.commands.exit_codes import DONE
from orchestrator.slow_imports import slow_imports

EXAMPLE = "results/pets vit_base_patch16_224.augreg_in21k/arc/vtab/pets --out pets --fold"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    parser.add_argument(
        "study", metavar="STUDY", help="backbone/method/task, as the results name it"
    )
    parser.add_argument("-o", "--out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--seed", type=int, help="which of the winner's finals (default: the first)"
    )
    parser.add_argument(
        "--fold",
        action="store_true",
        help="merge it into a plain model that timm.create_model('local-dir:OUT') loads",
    )

    parser.add_argument("--push", metavar="USER/NAME", help="also send it to the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="as a repository that is private")


def run(options: argparse.Namespace) -> int:
    """Write the winner into a folder, and send it if asked to; returns the exit code."""
    if not options.out and not options.push:
        raise InputError("give a folder with -o OUT, a repository with --push USER/NAME, or both")
    if options.private and not options.push:
        raise InputError("--private is about the repository of --push USER/NAME")
    from orchestrator.hub import check_can_push, push

    if options.push:
        check_can_push(options.push)
    with slow_imports():
        from orchestrator.export import export

    with tempfile.TemporaryDirectory() as scratch:
        out = Path(options.out or scratch)
        done = export(options.folder, options.study, out, options.seed, options.fold, options.push)
        if options.out:
            print(f"{done.path}: {done.what}")
        if options.push:
            url = push(done.path, done.files, options.push, options.private)
            print(f"{url}: {done.what}")
    return DONE

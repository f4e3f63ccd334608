"""`arc-sweep compare`: where two methods differ: on which tasks, classes and test images."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_folder, add_json
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.leaderboard.contrast import Contrast
    from orchestrator.leaderboard.source import Source

CLASSES = 5  # that are shown of a task
EXAMPLE = "results/pets arc lora"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)
    parser.add_argument("methods", nargs=2, metavar="METHOD", help="two methods of the sweep")
    parser.add_argument("--backbone", metavar="NAME", help="where the sweep has several")
    parser.add_argument(
        "--page", metavar="FILE", help="write a page, with pictures of images they differ on"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=12,
        metavar="N",
        help="pictures of a task and method at most (12); 0: no test image is opened",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Compare two methods on the same test images; returns the exit code."""
    from orchestrator import contents, leaderboard
    from orchestrator.commands.console import plain_console
    from orchestrator.leaderboard.contrast import contrast, plain_contrast
    from orchestrator.store.folder import SweepFolder

    if options.images < 0:
        raise InputError(f"--images must be at least 0, found {options.images}")
    folder = SweepFolder(options.folder)
    source = leaderboard.source(folder, contents.read(folder))
    backbone = _backbone(source, options)
    board = leaderboard.board_of(source)
    found = contrast(source, board, backbone, tuple(options.methods), options.images)
    if not found.tasks:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in found.left_out.items())
        raise InputError(f"no task to compare {' and '.join(found.methods)} on: {reasons}")
    if options.page:
        _write_page(folder, source, found, Path(options.page))
    if options.json:
        print(json.dumps(plain_contrast(found)))
        return DONE
    names = {row.task: row.class_names for row in board.rows}
    console = plain_console()
    for part in _texts(found, names):
        console.print(part)
    return DONE


def _backbone(source: "Source", options: argparse.Namespace) -> str:
    """The backbone to compare on.

    Raises:
        InputError: it is none of the sweep's, or one of the methods isn't.
    """
    backbones = list(dict.fromkeys(study.backbone for study in source.studies))
    methods = list(dict.fromkeys(study.method for study in source.studies))
    for method in options.methods:
        if method not in methods:
            raise InputError(f"no method {method} in {source.place}; it has {', '.join(methods)}")
    if options.methods[0] == options.methods[1]:
        raise InputError(f"{options.methods[0]} can't be compared with itself")
    if options.backbone is None and len(backbones) > 1:
        raise InputError(f"--backbone says on which to compare: {', '.join(backbones)}")
    if options.backbone not in (None, *backbones):
        raise InputError(
            f"no backbone {options.backbone} in {source.place}; it has {', '.join(backbones)}"
        )
    return options.backbone or backbones[0]


def _write_page(folder: Any, source: "Source", found: "Contrast", file: Path) -> None:
    from orchestrator.leaderboard.contrast_page import contrast_page
    from orchestrator.leaderboard.pictures import pictures

    names = {result.task: result.data.class_names or () for result in source.results}
    text = contrast_page(source, found, pictures(folder, source, found), names)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--page {file}: {error.strerror}") from error


def _texts(found: "Contrast", names: Mapping[str, tuple[str, ...]]) -> Iterator[Any]:
    """What the terminal shows, part by part."""
    from rich.text import Text

    from orchestrator.leaderboard.contrast import HOW

    a, b = found.methods
    yield Text(f"{a} against {b} on {found.backbone}, {len(found.seeds)} seeds each", "bold")
    yield _task_table(found)
    yield Text("\nthe classes that move most images", "bold")
    yield _class_table(found, names)
    yield Text("")
    for task, reason in found.left_out.items():
        yield Text(f"left out: {task}: {reason}", "dim")
    yield Text(HOW, "dim")


def _task_table(found: "Contrast") -> "Table":
    from orchestrator.leaderboard.comparison import level, signed
    from orchestrator.leaderboard.grid import short

    a, b = found.methods
    titles = short(task.task for task in found.tasks)
    table = _table("task", ["images", a, b, "difference", "p", f"only {a}", f"only {b}"])
    for task in found.tasks:
        pair, difference = task.pair, signed(task.accuracy[0] - task.accuracy[1])
        table.add_row(
            titles[task.task],
            f"{len(task.labels):,}",
            *(f"{accuracy:.1f}" for accuracy in task.accuracy),
            f"{difference} ±{pair.ci95[1] - pair.difference:.1f}" if pair else difference,
            level(pair.p_corrected) if pair else "–",
            *(f"{share:.1f}" for share in task.only),
        )
    return table


def _class_table(found: "Contrast", names: Mapping[str, tuple[str, ...]]) -> "Table":
    from orchestrator.leaderboard.comparison import level, signed
    from orchestrator.leaderboard.contrast import class_name
    from orchestrator.leaderboard.grid import short

    a, b = found.methods
    titles = short(task.task for task in found.tasks)
    table = _table("class", ["images", a, b, "difference", "p", f"{a} says", f"{b} says"])
    for task in found.tasks:
        known = names.get(task.task, ())
        for entry in task.classes[:CLASSES]:
            says = [
                f"{class_name(known, answer.label)} ({answer.share:.0f} %)" if answer else "–"
                for answer in entry.mistaken
            ]
            table.add_row(
                f"{titles[task.task]} {class_name(known, entry.label)}",
                str(entry.images),
                *(f"{accuracy:.1f}" for accuracy in entry.accuracy),
                signed(entry.difference),
                level(entry.p_corrected),
                *says,
            )
    return table


def _table(first: str, columns: Iterable[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table

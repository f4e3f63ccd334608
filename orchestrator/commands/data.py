"""`arc-sweep data`: check a machine's images, or decode them into its cache."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_json
from orchestrator.commands.exit_codes import BAD_INPUT, DONE

if TYPE_CHECKING:
    from rich.console import Console

    from arc_train.tasks.catalog import Task
    from arc_train.tasks.check import Report
    from arc_train.tasks.hub import Draw

MOST_NAMES = 30  # of classes in a line
EXAMPLE = "prepare --download vtab --root ~/data"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add an action each for checking and preparing."""
    parser.description = None  # the actions say it
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    summary = "read every image and list; exit code 2 if something is wrong"
    check = actions.add_parser("check", help=summary, description=summary)
    check.set_defaults(action=_check)
    check.add_argument("tasks", metavar="TASK", nargs="+", help="tasks, groups, or a sweep file")
    _add_source(check)
    _add_cache(check)
    add_json(check, instead_of="tables")

    summary = "decode images into this machine's cache, before any sweep"
    prepare = actions.add_parser("prepare", help=summary, description=summary)
    prepare.set_defaults(action=_prepare)
    prepare.add_argument("tasks", metavar="TASK", nargs="*", help="tasks, groups, or a sweep file")
    _add_source(prepare)
    prepare.add_argument("--size", type=int, help="side of the images (224, or the sweep's)")
    _add_cache(prepare)
    prepare.add_argument(
        "--download",
        metavar="ARCHIVE",
        choices=("vtab", "fgvc-lists"),
        help="first fetch the ready VTAB-1k folders (vtab) or VPT's lists of the "
        "fine-grained tasks (fgvc-lists) from the hub into --root",
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", metavar="DIR", help="folder that holds the tasks' folders; or hub"
    )
    parser.add_argument(
        "--draw", choices=("uniform", "stratified"), default="uniform", help="as data.draw"
    )
    parser.add_argument("--draw-seed", type=int, default=0, metavar="N", help="as data.draw_seed")


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", metavar="DIR", help="the cache ($ARC_SWEEP_CACHE)")


def run(options: argparse.Namespace) -> int:
    """Check or prepare the named tasks; returns the exit code."""
    _take_settings(options)
    code: int = options.action(options)
    return code


def _take_settings(options: argparse.Namespace) -> None:
    """What a sweep file among the tasks says of its data, where no option says it."""
    sweeps = [name for name in options.tasks if _is_sweep(name)]
    if len(sweeps) > 1:
        raise InputError(f"one sweep file at a time: {' and '.join(sweeps)}")
    if sweeps:
        from orchestrator.cost.operations import size
        from orchestrator.spec import load

        spec = load(sweeps[0])
        options.root = options.root or spec.data.root
        options.draw, options.draw_seed = spec.data.draw, spec.data.draw_seed
        if getattr(options, "cache", "") is None:
            options.cache = spec.data.cache
        if getattr(options, "size", 0) is None:
            sides = sorted({size(entry.backbone()).side for entry in spec.backbones})
            if len(sides) > 1:
                raise InputError(
                    f"the backbones of {sweeps[0]} take images of {' and '.join(map(str, sides))} "
                    "pixels: prepare one size at a time, with --size"
                )
            options.size = sides[0]
    elif getattr(options, "size", 0) is None:
        options.size = 224


def _is_sweep(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _check(options: argparse.Namespace) -> int:
    from arc_train.tasks.check import check, check_cache
    from orchestrator.commands.console import plain_console

    console = plain_console(sys.stderr if options.json else None)
    root = Path(options.root).expanduser() if options.root else None
    reports = []
    for task in _find_tasks(options.tasks):
        with console.status(f"reading {task.key}"):
            report = check(task, root, _draw(options))
            check_cache(report, task, _cache(options))
        reports.append(report)
    if options.json:
        print(json.dumps([asdict(report) for report in reports]))
    else:
        _print_reports(console, reports)
    return BAD_INPUT if any(report.faults for report in reports) else DONE


def _print_reports(console: "Console", reports: "list[Report]") -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("task", "train/val/test", "classes", "files", "fingerprint"):
        table.add_column(column, no_wrap=True)
    for report in reports:
        sizes = "/".join(map(str, report.sizes.values()))
        files = ", ".join(f"{count} {kind}" for kind, count in report.encodings.items())
        known = report.fingerprint or ""
        table.add_row(report.task, sizes, str(report.classes or ""), files, known)
    console.print(table)
    for report in reports:
        if report.class_names:
            console.print(f"{report.task}: {_named(report)}", soft_wrap=True, markup=False)
        each = ", ".join(f"{s} {min(n)} to {max(n)}" for s, n in report.per_class.items())
        for fact in ([f"images of a class: {each}"] if each else []) + report.facts:
            console.print(f"{report.task}: {fact}", style="dim", soft_wrap=True, markup=False)
    for report in reports:
        for fault in report.faults:
            line = f"FAULT {report.task}: {fault}"
            console.print(line, style="red", soft_wrap=True, markup=False)


def _named(report: "Report") -> str:
    """The classes by name, with their images in all splits."""
    counts = [sum(per_class) for per_class in zip(*report.per_class.values(), strict=True)]
    named = [f"{n} {count}" for n, count in zip(report.class_names, counts, strict=True)]
    more = f" and {len(named) - MOST_NAMES} more" if len(named) > MOST_NAMES else ""
    return f"{report.variant}; classes {', '.join(named[:MOST_NAMES])}{more}"


def _prepare(options: argparse.Namespace) -> int:
    from functools import partial

    from arc_train.tasks import cache
    from arc_train.tasks.progress import telling
    from orchestrator.commands.console import plain_console

    if options.size < 1:
        raise InputError(f"--size must be at least 1, found {options.size}")
    if not options.tasks and not options.download:
        raise InputError("name the tasks to prepare, or an archive to --download")
    if options.download:
        _download(options.download, options.root)
        if not options.tasks:
            return DONE
    root = Path(options.root).expanduser() if options.root else None
    folder, tasks, draw = _cache(options), _find_tasks(options.tasks), _draw(options)
    console = plain_console()
    say = partial(console.print, soft_wrap=True, markup=False)
    need = sum(cache.room(task, root, options.size, folder, draw) for task in tasks)
    free = cache.check_room(folder, need)
    say(f"about {need / 1e9:.2f} GB in {folder}, {free / 1e9:.0f} GB free")
    for task in tasks:
        with telling(task.key, console, say) as decoded:
            entry = cache.prepare(task, root, options.size, folder, decoded, draw, say, whole=True)
        say(f"{task.key}: {entry.transform}, fingerprint {entry.fingerprint}")
    return DONE


def _download(name: str, directory: str | None) -> None:
    from rich.progress import Progress as Bars

    from arc_train.tasks.download import ARCHIVES, download
    from orchestrator.commands.console import plain_console

    if directory is None:
        raise InputError("--download needs --root, the folder that will hold the tasks' folders")
    root = Path(directory).expanduser()
    console = plain_console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    bars = Bars(console=console)
    bar = bars.add_task("unpacking", total=None)

    def unpacked(done: int, total: int) -> None:
        bars.start()  # not before: the hub's client draws its own bar while it fetches
        bars.update(bar, completed=done, total=total)

    try:
        got = download(name, root, say, unpacked)
    finally:
        bars.stop()
    if not got.fetched:
        say(f"nothing to do: all {len(got.kept)} tasks of it are in {root}")
    for key, folder in got.placed.items():
        say(f"{key}: {root / folder}")
    for key, folder in got.kept.items() if got.fetched else ():
        say(f"{key}: kept what was in {root / folder}")
    if name == "fgvc-lists":
        say("these are lists without images: put each task's images into its folder's images/")
    group = ARCHIVES[name].group
    say(f"in a sweep file: data: {{root: {root}}}")
    say(f"look at it first: arc-sweep data check {group} --root {root}")


def _find_tasks(names: list[str]) -> "list[Task]":
    """The tasks of these names and sweep files, groups opened."""
    from arc_train.tasks.catalog import catalog, groups
    from orchestrator.spec import load, nearest

    tasks: dict[str, Task] = {}
    for name in names:
        if _is_sweep(name):
            tasks |= load(name).catalog
            continue
        if name not in catalog() and name not in groups():
            hint = nearest(name, [*catalog(), *groups()])
            raise InputError(f"unknown task {name!r}{hint}; see arc-sweep tasks")
        tasks |= {key: catalog()[key] for key in groups().get(name, (name,))}
    return list(tasks.values())


def _cache(options: argparse.Namespace) -> Path:
    from arc_train.tasks.cache import default_folder

    return Path(options.cache).expanduser() if options.cache else default_folder()


def _draw(options: argparse.Namespace) -> "Draw":
    from arc_train.tasks.hub import Draw

    return Draw(options.draw == "stratified", options.draw_seed)

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
    sub = add("status", _status, "how far a sweep is, from another terminal")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("leaderboard", _leaderboard, "rebuild the leaderboard from a sweep's result files")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("export", _export, "take a study's winner out of a sweep's folder")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
    sub.add_argument("study", metavar="STUDY", help="backbone/method/task, as the results name it")
    sub.add_argument("-o", "--out", metavar="OUT", required=True, help="folder to write")
    sub.add_argument("--seed", type=int, help="which of the winner's finals (default: the first)")
    sub.add_argument(
        "--fold",
        action="store_true",
        help="merge it into a plain model that timm.create_model('local-dir:OUT') loads",
    )
    data = commands.add_parser("data", help="check a machine's images, or prepare its cache")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    for name, command, summary in (
        ("check", _data_check, "read every image and list; exit code 2 if something is wrong"),
        ("prepare", _data_prepare, "decode images into this machine's cache, before any sweep"),
    ):
        sub = actions.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        sub.add_argument("tasks", metavar="TASK", nargs="+", help="tasks or groups")
        sub.add_argument("--root", metavar="DIR", help="folder that holds the tasks' folders")
        if name == "prepare":
            sub.add_argument("--size", type=int, default=224, help="side of the images (224)")
            sub.add_argument("--cache", metavar="DIR", help="the cache ($ARC_SWEEP_CACHE)")
        else:
            sub.add_argument("--json", action="store_true", help="print JSON instead of tables")
    sub = add("tasks", _tasks, "the tasks and groups a sweep can name")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("methods", _methods, "the methods and their recommended search spaces")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from orchestrator.interrupt import sigterm_interrupts

    sigterm_interrupts()

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

    from orchestrator.plan import cost, published_cost, task_sizes
    from orchestrator.spec import load

    spec = load(options.spec, options.overrides)
    sizes = task_sizes(spec)
    counts, published = asdict(cost(spec, sizes)), asdict(published_cost(spec, sizes))
    if options.json:
        print(json.dumps({**counts, "published_protocol": published}))
        return DONE
    table = Table(title=f"plan of {spec.name}", box=None, padding=(0, 2, 0, 0))
    table.add_column("at most")
    table.add_column("this sweep", justify="right")
    table.add_column("published protocol", justify="right")
    images = [name for name in counts if name.startswith("images")]
    rows = [(name.replace("_", " "), counts[name], published[name]) for name in counts]
    rows.append(("images in all", *(sum(c[n] for n in images) for c in (counts, published))))
    for name, ours, theirs in rows:
        table.add_row(name, f"{ours:,}", f"{theirs:,}")
    console = Console()
    console.print(table)
    console.print(
        "Published protocol: as many configurations, each trained on train + val to the last epoch "
        "and tested on the whole test set after every epoch, one seed, best epoch reported.",
        style="dim",
    )
    return DONE


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from orchestrator.status import status

    state = status(options.folder)
    if options.json:
        print(json.dumps(state))
        return DONE
    console = Console()
    counts = ", ".join(f"{count} {name}" for name, count in state["statuses"].items())
    driver = "a driver is running" if state["running"] else "no driver is running"
    console.print(
        f"{state['sweep']}: {state['complete']} of {len(state['studies'])} studies complete, "
        f"{driver}; trials: {counts or 'none yet'}",
        soft_wrap=True,
        markup=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("study", "search", "finals", "best val"):
        table.add_column(column, no_wrap=True, justify="left" if column == "study" else "right")
    for line in state["studies"]:
        best = line["best_val_accuracy"]
        table.add_row(
            line["study"],
            f"{line['search']}/{line['search_expected']}",
            f"{line['finals']}/{line['finals_expected']}",
            "" if best is None else f"{best:.1f}",
        )
    console.print(table)
    for pack in state["packs_begun"]:
        console.print(
            f"begun: {pack['kind']} {pack['study']}, {pack['ended']} of {pack['trials']} ended",
            soft_wrap=True,
            markup=False,
        )
    return DONE


def _leaderboard(options: argparse.Namespace) -> int:
    from rich.console import Console

    from orchestrator.folder import SweepFolder
    from orchestrator.leaderboard.terminal import render
    from orchestrator.spec import load
    from orchestrator.sweep import project

    folder = SweepFolder(options.folder)
    board = project(load(folder.resolved_spec()), folder)
    if options.json:
        print(json.dumps(board))
    else:
        Console().print(render(board))
    return DONE


def _chosen(names: list[str]) -> list[Any]:
    """Tasks by name, groups opened."""
    from arc_train.errors import InputError
    from arc_train.tasks.catalog import catalog, groups
    from orchestrator.spec import nearest

    keys: dict[str, None] = {}
    for name in names:
        if name not in catalog() and name not in groups():
            hint = nearest(name, [*catalog(), *groups()])
            raise InputError(f"unknown task {name!r}{hint}; see arc-sweep tasks")
        keys |= dict.fromkeys(groups().get(name, (name,)))
    return [catalog()[key] for key in keys]


def _data_check(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from arc_train.tasks.check import check

    console = Console(stderr=options.json)
    root = Path(options.root).expanduser() if options.root else None
    reports = []
    for task in _chosen(options.tasks):
        with console.status(f"reading {task.key}"):
            reports.append(check(task, root))
    faults = [(report.task, fault) for report in reports for fault in report.faults]
    if options.json:
        print(json.dumps([asdict(report) for report in reports]))
        return BAD_INPUT if faults else DONE
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
        for fact in report.facts:
            console.print(f"{report.task}: {fact}", style="dim", soft_wrap=True, markup=False)
    for key, fault in faults:
        console.print(f"FAULT {key}: {fault}", style="red", soft_wrap=True, markup=False)
    return BAD_INPUT if faults else DONE


def _data_prepare(options: argparse.Namespace) -> int:
    import shutil
    from functools import partial

    from rich.console import Console
    from rich.progress import Progress as Bars

    from arc_train.errors import InputError
    from arc_train.tasks import cache
    from arc_train.tasks.sources import SPLITS, open_source

    if options.size < 1:
        raise InputError(f"--size must be at least 1, found {options.size}")
    root = Path(options.root).expanduser() if options.root else None
    folder = Path(options.cache).expanduser() if options.cache else cache.default_folder()
    tasks = _chosen(options.tasks)
    counts = {}
    for task in tasks:
        source = open_source(task, root)
        counts[task] = sum(source.size(split) for split in SPLITS)
    folder.mkdir(parents=True, exist_ok=True)
    need = sum(cache.disk(task, count, options.size) for task, count in counts.items())
    free = shutil.disk_usage(folder).free
    console = Console()
    room = f"about {need / 1e9:.2f} GB in {folder}, {free / 1e9:.0f} GB free"
    console.print(room, soft_wrap=True, markup=False)
    if need > free:
        raise InputError(f"{folder} has no room for {need / 1e9:.1f} GB; choose another --cache")
    with Bars(console=console) as bars:
        for task, count in counts.items():
            bar = bars.add_task(task.key, total=count)
            decoded = partial(bars.advance, bar)
            entry = cache.prepare(task, root, options.size, folder, decoded)
            bars.update(bar, completed=count)
            bars.console.print(f"{task.key}: {entry.transform}, fingerprint {entry.fingerprint}")
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
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from arc_train.methods import METHODS, default_spaces
    from arc_train.methods.counts import counts

    found = counts()
    if options.json:
        spaces = {name: default_spaces()[name] for name in METHODS}
        print(json.dumps({"spaces": spaces, "counts": [asdict(count) for count in found]}))
        return DONE
    console = Console()
    table = Table(title="recommended search spaces", box=None, title_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column("space")
    for name in METHODS:
        table.add_row(name, "  ".join(_dimension(*d) for d in default_spaces()[name].items()))
    console.print(table)
    for backbone in dict.fromkeys(count.backbone for count in found):
        console.print()
        _counts(console, backbone, [count for count in found if count.backbone == backbone])
    return DONE


def _dimension(name: str, space: Any) -> str:
    """`lr 0.001..0.1 log`, `rank 8|16`, `layers 4`."""
    if isinstance(space, dict):
        ((scale, (low, high)),) = space.items()
        return f"{name} {low:g}..{high:g} {scale}"
    values = space if isinstance(space, list) else [space]
    return f"{name} {'|'.join(f'{value:g}' for value in values)}"


def _counts(console: Any, backbone: str, counts: list[Any]) -> None:
    """Trained parameters on one backbone, beside the published figures in millions."""
    from rich.table import Table

    table = Table(
        title=f"{backbone}: trained parameters; with the head, as mean over the tasks; "
        "as printed, in millions",
        box=None,
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    columns = ("method", "no head", "VTAB-1k", "printed", "FGVC", "printed")
    for column in columns:
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
    console.print(table)
    for number, note in enumerate(notes, start=1):
        console.print(f"({number}) {note}", style="dim", soft_wrap=True)


def _export(options: argparse.Namespace) -> int:
    from orchestrator.export import export

    exported = export(options.folder, options.study, Path(options.out), options.seed, options.fold)
    print(f"{exported.path}: {exported.what}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())

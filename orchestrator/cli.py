"""The command line. Imports nothing heavy until a command needs it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from arc_train.errors import InputError

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
    except InputError as error:
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
        if name == "plan":
            sub.add_argument("--gpu", metavar="NAME", help="estimate GPU-hours: h100, l4, ...")
            sub.add_argument(
                "--measured", metavar="DIR", help="estimate from a sweep's folder instead"
            )
            sub.add_argument("--price", type=float, metavar="P", help="price of one GPU-hour")
        else:
            sub.add_argument(
                "--submit",
                nargs="?",
                const="",
                metavar="ADDRESS",
                help="run it as a job of the Ray cluster whose dashboard is at ADDRESS "
                "($RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, http://127.0.0.1:8265); it goes on when "
                "you stop following",
            )
    sub = add("status", _status, "how far a sweep is, from another terminal")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("leaderboard", _leaderboard, "rebuild the leaderboard from a sweep's result files")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub.add_argument("--latex", metavar="FILE", help="also write the tables as LaTeX")
    sub.add_argument("--png", metavar="FOLDER", help="also draw the plots as PNG files")
    sub.add_argument("--wandb", action="store_true", help="also have all of it online in W&B")
    sub = add("dashboard", _dashboard, "create or update a sweep's workspace and report in W&B")
    sub.add_argument("folder", metavar="DIR", help="the sweep's folder")
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
    sub = add("replay", _replay, "search algorithms on a table of finished trials")
    sub.add_argument(
        "table", metavar="TABLE", help="CSV: task,method,rank,lr,wd,other,val_loss,val_accuracy"
    )
    sub.add_argument("--algorithm", default="portfolio", help="portfolio, tpe, random or grid")
    sub.add_argument("--trials", type=int, default=16, metavar="N", help="largest budget (16)")
    sub.add_argument("--seeds", type=int, default=1, metavar="S", help="repetitions (1)")
    sub.add_argument("--rounds", type=int, default=2, metavar="R", help="as search.rounds (2)")
    sub.add_argument(
        "--finals", metavar="TABLE", help="CSV of final tests (finals.csv beside TABLE)"
    )
    sub.add_argument("--json", action="store_true", help="print JSON instead of tables")
    data = commands.add_parser("data", help="check a machine's images, or prepare its cache")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    for name, command, summary in (
        ("check", _data_check, "read every image and list; exit code 2 if something is wrong"),
        ("prepare", _data_prepare, "decode images into this machine's cache, before any sweep"),
    ):
        sub = actions.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        nargs = "*" if name == "prepare" else "+"
        sub.add_argument("tasks", metavar="TASK", nargs=nargs, help="tasks or groups")
        sub.add_argument(
            "--root", metavar="DIR", help="folder that holds the tasks' folders; or hub"
        )
        sub.add_argument(
            "--draw", choices=("uniform", "stratified"), default="uniform", help="as data.draw"
        )
        sub.add_argument("--draw-seed", type=int, default=0, metavar="N", help="as data.draw_seed")
        if name == "prepare":
            sub.add_argument("--size", type=int, default=224, help="side of the images (224)")
            sub.add_argument("--cache", metavar="DIR", help="the cache ($ARC_SWEEP_CACHE)")
            sub.add_argument(
                "--download",
                metavar="ARCHIVE",
                choices=("vtab", "fgvc-lists"),
                help="first fetch the ready VTAB-1k folders (vtab) or VPT's lists of the "
                "fine-grained tasks (fgvc-lists) from the hub into --root",
            )
        else:
            sub.add_argument("--json", action="store_true", help="print JSON instead of tables")
    sub = add("tasks", _tasks, "the tasks and groups a sweep can name, and what is here of them")
    sub.add_argument("--root", metavar="DIR", help="show what is ready below this data.root")
    sub.add_argument("--cache", metavar="DIR", help="the cache to look into ($ARC_SWEEP_CACHE)")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("methods", _methods, "the methods and their recommended search spaces")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.submit is not None:
        return _submit(options)
    from rich.console import Console

    from orchestrator.cluster.interrupt import catch_interrupts

    catch_interrupts()

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
        _where(console, spec.place, ended)
    if ended.problem:
        print(f"arc-sweep: {ended.problem}", file=sys.stderr)
    if ended.interrupted:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return FAILED_TRIALS if ended.statuses.get("failed") else DONE


def _submit(options: argparse.Namespace) -> int:
    from orchestrator.cluster.submit import Detached, submit

    if options.json:
        raise InputError(
            "--json doesn't go with --submit: `arc-sweep leaderboard DIR --json` on the cluster"
        )
    try:
        return submit(options.spec, options.overrides, options.submit)
    except Detached as detached:
        print(detached, file=sys.stderr)
        return INTERRUPTED


def _where(console: Any, place: str, ended: Any) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(ended.statuses.items()))
    console.print(f"{ended.trained} trials trained now; in all {counts or 'none'}")
    for line in (
        f"results      {place}/trials/",
        f"leaderboard  {ended.folder}/leaderboard.html (also .json, .csv)",
        *([f"W&B runs     {ended.folder}/wandb/"] if (ended.folder / "wandb").is_dir() else []),
    ):
        console.print(line, soft_wrap=True)


def _plan(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from orchestrator.cost.work import cost, published_cost, task_sizes
    from orchestrator.spec import load

    spec = load(options.spec, options.overrides)
    sizes = task_sizes(spec)
    counts, published = asdict(cost(spec, sizes)), asdict(published_cost(spec, sizes))
    guess = None
    if options.gpu or options.measured:
        from orchestrator.cost.estimate import assumed, estimate, measured

        if options.gpu and options.measured:
            raise InputError("--gpu assumes a throughput, --measured takes one: give one of them")
        rates = measured(options.measured) if options.measured else assumed(options.gpu)
        guess = estimate(spec, sizes, rates, options.price)
    elif options.price is not None:
        raise InputError("--price needs --gpu or --measured: what costs so much an hour?")
    if options.json:
        estimated = {"estimate": asdict(guess)} if guess else {}
        print(json.dumps({**counts, "published_protocol": published, **estimated}))
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
    if guess:
        _print_estimate(console, guess, options.price)
    return DONE


def _print_estimate(console: Any, guess: Any, price: float | None) -> None:
    from rich.table import Table

    table = Table(title=f"on {guess.gpu}, at most", box=None, padding=(0, 2, 0, 0))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    table.add_row("worker-hours" if guess.gpu == "cpu" else "GPU-hours", f"{guess.gpu_hours:,.1f}")
    if guess.money is not None:
        table.add_row("money", f"{guess.money:,.2f}", f"at {price:g} per GPU-hour")
    table.add_row("hours", f"{guess.hours_longest_study:,.2f}", f"of {guess.longest_study} alone")
    table.add_row("GPU memory", f"{guess.pack_memory_gb:,.1f} GB", "of a pack, and activations")
    table.add_row("disk", f"{guess.cache_gb:,.1f} GB", "of every node, for its cache")
    table.add_row("", f"{guess.results_gb:,.1f} GB", "of storage, for adapters")
    console.print(table)
    console.print(f"{guess.assumption[0].upper()}{guess.assumption[1:]}.", style="dim")


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

    from orchestrator.leaderboard.terminal import render
    from orchestrator.spec import load
    from orchestrator.store.folder import SweepFolder
    from orchestrator.sweep import project, upload

    folder = SweepFolder(options.folder)
    spec = load(folder.resolved_spec())
    board = project(spec, folder)
    if options.latex:
        from orchestrator.leaderboard.latex import latex

        try:
            Path(options.latex).write_text(latex(board), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--latex {options.latex}: {error.strerror}") from error
    if options.png:
        _figures(board, folder, Path(options.png))
    if options.wandb:
        upload(spec, folder, board)
    if options.json:
        print(json.dumps(board))
    else:
        Console().print(render(board))
    return DONE


def _figures(board: Any, folder: Any, place: Path) -> None:
    try:
        from orchestrator.leaderboard.figures import draw
    except ImportError as error:
        raise InputError(
            f"--png needs matplotlib ({error}): pip install 'arc-sweep[plots]', or matplotlib"
        ) from error
    try:
        drawn = draw(board, folder.results().values(), place)
    except OSError as error:
        raise InputError(f"--png {place}: {error.strerror}") from error
    print(f"{len(drawn)} figures in {place}/", file=sys.stderr)


def _dashboard(options: argparse.Namespace) -> int:
    from orchestrator.spec import load
    from orchestrator.store.folder import SweepFolder, write_atomically
    from orchestrator.sweep import project, upload
    from orchestrator.tracking import dashboard
    from orchestrator.tracking.tracker import has_credentials

    folder = SweepFolder(options.folder)
    spec = load(folder.resolved_spec())
    board = project(spec, folder)
    place = spec.wandb.project or spec.name
    if has_credentials():
        upload(spec, folder, board)  # the panels show its runs
        for what, url in dashboard.save(folder.path, board, spec.wandb.entity, place).items():
            print(f"{what:10} {url}")
        return DONE
    for what, content in dashboard.specification(board).items():
        path = folder.path / f"wandb_{what}.json"
        write_atomically(path, json.dumps(content, indent=1).encode())
        print(f"{what:10} {path}")
    print(
        f"No W&B credentials (`wandb login`, or WANDB_API_KEY): with them this command sends the "
        f"sweep's runs to project {place!r} and creates or updates these two there."
    )
    return DONE


def _chosen(names: list[str]) -> list[Any]:
    """Tasks by name, groups opened."""
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
            reports.append(check(task, root, _draw(options)))
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
        each = ", ".join(f"{s} {min(n)} to {max(n)}" for s, n in report.per_class.items())
        for fact in ([f"images of a class: {each}"] if each else []) + report.facts:
            console.print(f"{report.task}: {fact}", style="dim", soft_wrap=True, markup=False)
    for key, fault in faults:
        console.print(f"FAULT {key}: {fault}", style="red", soft_wrap=True, markup=False)
    return BAD_INPUT if faults else DONE


def _draw(options: argparse.Namespace) -> Any:
    from arc_train.tasks.hub import Draw

    return Draw(options.draw == "stratified", options.draw_seed)


def _data_prepare(options: argparse.Namespace) -> int:
    import shutil
    from functools import partial

    from rich.console import Console
    from rich.progress import Progress as Bars

    from arc_train.tasks import cache
    from arc_train.tasks.sources import SPLITS, open_source

    if options.size < 1:
        raise InputError(f"--size must be at least 1, found {options.size}")
    if not options.tasks and not options.download:
        raise InputError("name the tasks to prepare, or an archive to --download")
    if options.download:
        _download(options.download, options.root)
        if not options.tasks:
            return DONE
    root = Path(options.root).expanduser() if options.root else None
    folder = Path(options.cache).expanduser() if options.cache else cache.default_folder()
    tasks = _chosen(options.tasks)
    counts = {}
    for task in tasks:
        source = open_source(task, root, _draw(options))
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
            entry = cache.prepare(task, root, options.size, folder, decoded, _draw(options))
            bars.update(bar, completed=count)
            bars.console.print(f"{task.key}: {entry.transform}, fingerprint {entry.fingerprint}")
    return DONE


def _download(name: str, directory: str | None) -> None:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from arc_train.tasks.download import ARCHIVES, download

    if directory is None:
        raise InputError("--download needs --root, the folder that will hold the tasks' folders")
    root = Path(directory).expanduser()
    console = Console()

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


def _tasks(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from arc_train.tasks.catalog import catalog, groups

    ready = _ready(options) if options.root else {}
    if options.json:
        tasks = [
            asdict(task) | ({"ready": asdict(ready[key])} if ready else {})
            for key, task in catalog().items()
        ]
        print(json.dumps({"tasks": tasks, "groups": groups()}))
        return DONE
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    for column in ("key", "lists", "cached px") if ready else ("key", "name"):
        table.add_column(column, no_wrap=True)
    for column in ("classes", "train", "val", "test"):
        table.add_column(column, no_wrap=True, justify="right")
    if not ready:
        table.add_column("a class is", no_wrap=True, ratio=1)
    for task in catalog().values():
        sizes = [f"{size:,}" for size in (task.classes, task.train, task.val, task.test)]
        if ready:
            found = ready[task.key]
            table.add_row(task.key, found.lists, " ".join(map(str, found.cached)), *sizes)
        else:
            table.add_row(task.key, task.name, *sizes, task.label)
    console = Console()
    console.print(table)
    for key, found in ready.items():
        if found.lists in ("wrong", "other sizes"):
            style = "red" if found.lists == "wrong" else "dim"
            console.print(f"{key}: {found.detail}", style=style, soft_wrap=True, markup=False)
        elif found.lists == "not found" and catalog()[key].note:
            console.print(f"{key}: {catalog()[key].note}", style="dim", soft_wrap=True)
    named = ", ".join(f"{name} ({len(keys)})" for name, keys in groups().items())
    console.print(f"groups: {named}")
    return DONE


def _ready(options: argparse.Namespace) -> dict[str, Any]:
    """By task, what this machine has of it."""
    from arc_train.tasks import cache
    from arc_train.tasks.catalog import catalog
    from arc_train.tasks.ready import look

    root = Path(options.root).expanduser()
    if not root.is_dir():
        raise InputError(f"--root {root} is no folder")
    folder = Path(options.cache).expanduser() if options.cache else cache.default_folder()
    return {key: look(task, root, folder) for key, task in catalog().items()}


def _methods(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from arc_train.methods import METHODS, recommended
    from arc_train.methods.counts import counts
    from orchestrator.search.space import words

    found = counts()
    if options.json:
        methods = {
            name: {**asdict(recommended(name)), "options": dict(method.options)}
            for name, method in METHODS.items()
        }
        print(json.dumps({"methods": methods, "counts": [asdict(count) for count in found]}))
        return DONE
    console = Console()
    table = Table(title="recommended search spaces", box=None, title_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column("space; variants that a sweep may fix")
    table.add_column("tried first")
    for name, method in METHODS.items():
        searched = "  ".join(_dimension(*d) for d in recommended(name).space.items())
        variants = "  ".join(
            _dimension(key, list(values)) for key, values in method.options.items()
        )
        table.add_row(
            name,
            f"{searched}; {variants}" if variants else searched,
            words(recommended(name).first),
        )
    console.print(table)
    for backbone in dict.fromkeys(count.backbone for count in found):
        console.print()
        _counts(console, backbone, [count for count in found if count.backbone == backbone])
    return DONE


def _dimension(name: str, space: Any) -> str:
    """`lr 0.001..0.1 log`, `rank 8|16`, `layers 4`."""
    from orchestrator.search.space import shown

    if isinstance(space, dict):
        ((scale, (low, high)),) = space.items()
        return f"{name} {low:g}..{high:g} {scale}"
    values = space if isinstance(space, list) else [space]
    return f"{name} {'|'.join(map(shown, values))}"


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


def _replay(options: argparse.Namespace) -> int:
    from rich.console import Console

    from arc_train.errors import InputError
    from orchestrator.search.replay import gaps, read, replay
    from orchestrator.search.searchers import SEARCHERS

    if options.algorithm not in SEARCHERS:
        raise InputError(
            f"unknown algorithm {options.algorithm!r} at --algorithm; "
            f"allowed: {', '.join(SEARCHERS)}"
        )
    for name in ("trials", "seeds", "rounds"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} must be at least 1, found {getattr(options, name)}")
    beside = Path(options.table).with_name("finals.csv")
    finals = options.finals or (beside if beside.is_file() else None)
    inflation = gaps(finals) if finals else []
    table = read(options.table)
    found = replay(table, options.algorithm, options.trials, options.seeds, options.rounds)
    if options.json:
        print(json.dumps({"algorithm": options.algorithm, "regret": found, "gaps": inflation}))
        return DONE
    console = Console()
    console.print(_regrets(options, found))
    if inflation:
        console.print()
        console.print(_gaps(inflation))
    return DONE


def _regrets(options: argparse.Namespace, rows: list[Any]) -> Any:
    from rich.table import Table

    table = Table(
        title=f"validation accuracy below the best of the full grid, in points, after so many "
        f"trials: {options.algorithm} (random)",
        box=None,
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for column in ("tasks", "grid", *rows[0]["regret"]):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            f"{regret:.2f} ({row['random'][budget]:.2f})"
            for budget, regret in row["regret"].items()
        ]
        style = "bold" if row["method"] == "all" else ""
        table.add_row(row["method"], str(row["cells"]), f"{row['grid']:.0f}", *cells, style=style)
    return table


def _gaps(rows: list[Any]) -> Any:
    from rich.table import Table

    table = Table(
        title="test accuracy as it is, and as choosing the epoch on the test set would have it",
        box=None,
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for column in ("tasks", "last epoch", "best epoch on test", "gap", "largest"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        accuracies = (row["last"], row["best_epoch"], row["gap"], row["largest_gap"])
        table.add_row(row["method"], str(row["tasks"]), *(f"{value:.2f}" for value in accuracies))
    return table


def _export(options: argparse.Namespace) -> int:
    from orchestrator.export import export

    exported = export(options.folder, options.study, Path(options.out), options.seed, options.fold)
    print(f"{exported.path}: {exported.what}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())

"""Runs a sweep: checks, prepares, drives one Tuner, and ends with the leaderboard.

Running is making the files that are missing, so the same command resumes whatever ended how.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from arc_train import adapt, backbones
from arc_train.errors import InputError
from arc_train.methods import METHODS
from arc_train.tasks import cache
from arc_train.tasks.catalog import catalog
from orchestrator import leaderboard
from orchestrator.cluster.report import PackReport
from orchestrator.cost.forecast import Forecast
from orchestrator.cost.work import task_sizes
from orchestrator.leaderboard.board import Board, Protocol
from orchestrator.plan import Identity, studies
from orchestrator.progress import Progress
from orchestrator.search.selection import metered_alike
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, dump
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan
from orchestrator.store.result import Result
from orchestrator.tracking.settings import has_credentials, project_name, resolve_mode
from orchestrator.tracking.tracker import Tracker

# What may not change in a sweep's folder: results made otherwise can't stand in one table.
FIXED = ("seed", "backbones", "training")
FIXED_IN = {
    "search": ("algorithm", "halving", "space"),
    "protocol": ("final_on",),
    "data": ("normalise",),
}


@dataclass(frozen=True)
class Ended:
    """How a sweep ended: its folder on this machine, its leaderboard, and trials by status."""

    folder: Path
    board: Board
    statuses: Mapping[str, int]
    trained: int
    interrupted: bool
    problem: str | None


def run(spec: Spec, progress: Progress) -> Ended:
    """Run what is missing of a sweep.

    Raises:
        InputError: bad data, a checkpoint that doesn't fit, a folder that another driver works
            in or that holds another sweep's results.
    """
    folder = SweepFolder(spec.place)
    folder.create()
    with _locked(folder):
        _check_folder(spec, folder)
        identity = prepare(spec, progress)
        _check_results(spec, folder, identity)
        folder.write(folder.spec, dump(spec).encode())
        search = SweepSearch(spec, identity, folder)
        tracker = _tracker(spec, folder, resolve_mode(spec.wandb.mode))
        before = folder.results()
        for result in before.values():
            tracker.log(result)
        problem, interrupted = None, False
        if search.ready():
            interrupted, problem = _tune(spec, folder, identity, search, tracker, progress)
        board = write_leaderboard(spec, folder)
        if not interrupted:
            tracker.board(board)
        tracker.close(timeout=10 if interrupted else None)
        results = folder.results()
        statuses: dict[str, int] = {}
        for result in results.values():
            statuses[result.status] = statuses.get(result.status, 0) + 1
        trained = sum(1 for trial in results if before.get(trial) != results[trial])
        return Ended(folder.path, board, statuses, trained, interrupted, problem or tracker.problem)


def upload(spec: Spec, folder: SweepFolder, board: Board) -> None:
    """Have every result and the leaderboard as W&B runs online, wherever the sweep ran.

    What is online already isn't sent again.

    Raises:
        InputError: no credentials, or W&B can't be reached.
    """
    if not has_credentials():
        raise InputError(
            "W&B needs credentials: run `wandb login`, or set WANDB_API_KEY (and "
            "WANDB_BASE_URL for a server of your own)"
        )
    if resolve_mode("online") != "online":
        raise InputError(
            "WANDB_MODE, WANDB_DISABLED or `wandb offline` says that nothing is to be sent; undo "
            "that (`wandb online`) and run this again"
        )
    with _locked(folder):
        tracker = _tracker(spec, folder, "online")
        for result in folder.results().values():
            tracker.log(result)
        tracker.board(board)
        tracker.close()
    if tracker.problem:
        raise InputError(tracker.problem)


def _tracker(spec: Spec, folder: SweepFolder, mode: str) -> Tracker:
    project = project_name(spec.wandb.project, spec.name)
    return Tracker(folder.path, spec.name, mode, project, spec.wandb.entity)


def write_leaderboard(spec: Spec, folder: SweepFolder) -> Board:
    """Write the leaderboard's files from the result files."""
    results = metered_alike(folder.results().values(), spec.protocol.leak_meter)
    tasks = catalog()
    board = leaderboard.leaderboard(
        spec.name,
        Protocol(spec.protocol.final_on, spec.protocol.leak_meter, tuple(spec.finals.seeds)),
        results,
        studies(spec),
        {task: tasks[task].group for task in spec.tasks},
        {named.name: named.backbone() for named in spec.backbones},
    )
    leaderboard.write(folder, board, results)
    folder.collect()
    return board


def prepare(spec: Spec, progress: Progress) -> Identity:
    """Check everything that could stop a trial, and fill this node's cache, before any starts."""
    prints, sides = {}, {}
    for named in spec.backbones:
        backbone = named.backbone()
        progress.say(f"checking backbone {backbone.name}")
        model = backbones.build(backbone, progress.say)
        for remark in backbones.remarks(backbone, model):
            progress.say(remark)
        sides[backbone.name] = backbones.input_size(model)
        prints[backbone.name] = backbones.fingerprint(backbone)
        _check_methods(spec, named.name, model)
    wanted = [(task, side) for task in spec.tasks for side in sorted(set(sides.values()))]
    need = sum(  # which reads all lists: a wrong line is found before hours of decoding
        cache.room(catalog()[task], spec.data_root, side, spec.cache_folder, spec.draw)
        for task, side in wanted
    )
    cache.check_room(spec.cache_folder, need)
    tasks = {}
    for task, side in wanted:
        with progress.decoding(task) as decoded:
            entry = cache.prepare(
                catalog()[task],
                spec.data_root,
                side,
                spec.cache_folder,
                decoded,
                spec.draw,
                progress.say,
            )
        tasks[task] = entry.fingerprint
    return Identity(prints, tasks)


def _tune(
    spec: Spec,
    folder: SweepFolder,
    identity: Identity,
    search: SweepSearch,
    tracker: Tracker,
    progress: Progress,
) -> tuple[bool, str | None]:
    """Drive the Tuner; returns (interrupted, problem)."""
    from orchestrator.cluster.tuner import Reports, drive  # Ray is slow to import

    def reported(plan: PackPlan, report: PackReport) -> None:
        ended = [folder.result(trial) for trial in report.ended]
        for result in ended:
            if result is not None:
                if result.kind == "final":
                    folder.adapter(result.id)  # goes along with the run
                tracker.log(result)
        for trial in plan.trials:
            if rows := report.curves.get(trial.id):
                tracker.rows(plan.info(trial), rows)
        progress.pack_reported(plan, report, [result for result in ended if result])

    def failed(plan: PackPlan, results: list[Result], reason: str) -> None:
        for result in results:
            tracker.log(result)
        progress.pack_failed(plan, results, reason)

    progress.say("starting Ray")
    forecast = Forecast(spec, task_sizes(spec), folder.results().values())
    reports = Reports(progress.say, progress.pack_started, reported, failed)
    with progress.sweep(search, forecast):
        try:
            drive(spec, folder, identity, search, reports)
        except KeyboardInterrupt:
            return True, None
    return False, None


@contextlib.contextmanager
def _locked(folder: SweepFolder) -> Iterator[None]:
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=1)  # `status` holds it for a moment
    except Timeout:
        raise InputError(
            f"another arc-sweep run is working in {folder.path}; wait for it, or give this sweep "
            "another name"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_folder(spec: Spec, folder: SweepFolder) -> None:
    """Refuse to continue a sweep under other rules."""
    text = folder.earlier_spec()
    if text is None:
        return
    try:
        old = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{folder.spec} is damaged: {error}") from error
    new = spec.model_dump(mode="json")
    changed = [key for key in FIXED if old.get(key) != new[key]]
    for part, keys in FIXED_IN.items():
        changed += [f"{part}.{k}" for k in keys if old.get(part, {}).get(k) != new[part][k]]
    if changed and folder.results():
        raise InputError(
            f"{folder.path} holds results of a sweep with another {', '.join(changed)}; give this "
            "sweep another name or storage, or delete that folder"
        )


def _check_results(spec: Spec, folder: SweepFolder, identity: Identity) -> None:
    """Refuse to put results of other images into one table with new ones."""
    for result in folder.results().values():
        expected = identity.tasks.get(result.task)
        if expected and result.data.fingerprint != expected:
            raise InputError(
                f"{folder.path} holds results of {result.task} made from other images "
                f"(fingerprint {result.data.fingerprint}, now {expected}); give this sweep "
                "another name or storage"
            )


def _check_methods(spec: Spec, name: str, model: Any) -> None:
    for method in spec.methods:
        try:
            options = METHODS[method].options.keys() & spec.search.space.get(method, {}).keys()
            adapt(model, method, 2, **{name: spec.search.space[method][name] for name in options})
        except InputError as error:
            raise InputError(f"method {method!r} can't adapt backbone {name!r}: {error}") from error

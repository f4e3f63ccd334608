"""Runs a sweep: checks, prepares, drives one Tuner, and ends with the leaderboard.

Running is making the files that are missing, so the same command resumes whatever ended how.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_train import backbones
from arc_train.adaptation import try_adapt
from arc_train.errors import InputError
from arc_train.methods import METHODS, own
from arc_train.tasks import cache
from orchestrator import leaderboard
from orchestrator.cluster.report import PackReport, Reports
from orchestrator.contents import Contents
from orchestrator.cost.forecast import Forecast
from orchestrator.cost.room import check_room
from orchestrator.cost.work import task_sizes
from orchestrator.earlier_sweeps import learn
from orchestrator.leaderboard.board import Board
from orchestrator.plan import Identity, made_by, studies
from orchestrator.progress import Progress
from orchestrator.search.studies import SweepSearch
from orchestrator.slow_imports import slow_imports
from orchestrator.spec import Spec, dump, load_resolved
from orchestrator.store.damage import set_aside_damaged
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lock import locked
from orchestrator.store.pack import PackPlan
from orchestrator.store.result import Result
from orchestrator.tracking.settings import resolve_mode
from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.upload import tracker_of

# What may not change in a sweep's folder: results made otherwise can't stand in one table.
FIXED = ("seed", "backbones", "training")
FIXED_IN = {
    "search": ("algorithm", "halving", "space", "fixed", "learn_from"),
    "protocol": ("final_on",),
    "data": ("normalise",),
}


@dataclass(frozen=True)
class Ended:
    """How a sweep ended: its folder on this machine, its leaderboard, and trials by status.

    problem: what ended it before its time. unsent: what keeps results from being W&B runs.
    complete: every trial has its result, as the files say once more, and none failed.
    """

    folder: Path
    board: Board
    statuses: Mapping[str, int]
    trained: int
    complete: bool
    interrupted: bool
    problem: str | None
    unsent: str | None

    @property
    def lost(self) -> list[str]:
        """Studies that were searched to the end and have no winner, each with its trials."""
        if self.interrupted or self.problem:
            return []
        return [
            f"{row.study} ({', '.join(f'{n} {status}' for status, n in row.statuses.items())})"
            for row in self.board.rows
            if row.config is None
        ]


def run(spec: Spec, progress: Progress) -> Ended:
    """Run what is missing of a sweep.

    Raises:
        InputError: bad data, a checkpoint that doesn't fit, a folder that another driver works
            in or that holds another sweep's results.
    """
    folder = SweepFolder(spec.place)
    folder.create()
    with locked(folder, progress.say):
        for damaged in set_aside_damaged(folder):
            progress.say(f"{damaged}: set aside in {folder.path / 'damaged'}")
        spec = _as_begun(spec, folder, progress)
        _check_folder(spec, folder)
        if earlier := learn(spec, folder).studies:
            trials = sum(len(study.trials) for study in earlier)
            progress.say(f"learning from {trials:,} trials of {len(earlier)} earlier studies")
        check_room(spec, folder)
        identity = prepare(spec, progress)
        search = SweepSearch(spec, identity, folder)
        before = search.found
        _check_results(spec, folder, identity, before.values())
        folder.write_spec(dump(spec))
        mode = resolve_mode(spec.wandb.mode)
        tracker = tracker_of(Contents(spec.name, spec, before), folder, mode)
        for result in before.values():
            tracker.log(result)
        problem, interrupted = None, False
        if search.ready():
            forecast = Forecast(spec, task_sizes(spec), before.values())
            interrupted, problem = _tune(
                spec, folder, identity, search, forecast, tracker, progress
            )
        contents = Contents(spec.name, spec, folder.results())
        found = leaderboard.source(folder, contents)
        board = leaderboard.board_of(found)
        leaderboard.write(folder, found, board)
        results = contents.results
        statuses = Counter[str](result.status for result in results.values())
        if not interrupted:
            alert = _how_it_ended(statuses, problem) if spec.wandb.alert else None
            tracker.board(board, alert)
        tracker.close(timeout=10 if interrupted else None)
        trained = sum(1 for trial in results if before.get(trial) != results[trial])
        complete = not SweepSearch(spec, identity, folder).ready()
        return Ended(
            *(folder.path, board, statuses, trained, complete, interrupted, problem),
            tracker.problem,
        )


def _how_it_ended(statuses: Mapping[str, int], problem: str | None) -> str:
    """For who is told of it elsewhere."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return f"The run has ended: trials {counts or 'none'}.{f' {problem}' if problem else ''}"


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
    wanted = [(key, side) for key in spec.catalog for side in sorted(set(sides.values()))]
    need = sum(  # which reads all lists: a wrong line is found before hours of decoding
        cache.room(spec.catalog[key], spec.data_root, side, spec.cache_folder, spec.draw)
        for key, side in wanted
    )
    cache.check_room(spec.cache_folder, need)
    tasks = {}
    for key, side in wanted:
        with progress.decoding(key) as decoded:
            entry = cache.prepare(
                spec.catalog[key],
                spec.data_root,
                side,
                spec.cache_folder,
                decoded,
                spec.draw,
                progress.say,
            )
        tasks[key] = entry.fingerprint
    sources = {method: own.source(method) for method in spec.methods if method not in METHODS}
    return Identity(prints, tasks, sources)


def _tune(
    spec: Spec,
    folder: SweepFolder,
    identity: Identity,
    search: SweepSearch,
    forecast: Forecast,
    tracker: Tracker,
    progress: Progress,
) -> tuple[bool, str | None]:
    """Drive the Tuner; returns (interrupted, problem)."""
    with slow_imports():
        from orchestrator.cluster.connection import ClusterLost
        from orchestrator.cluster.tuner import drive

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
    reports = Reports(progress.say, progress.pack_started, reported, failed)
    with progress.sweep(search, forecast):
        try:
            drive(spec, folder, identity, search, reports)
        except KeyboardInterrupt:
            return True, None
        except ClusterLost as lost:
            return False, str(lost)
    return False, None


def _as_begun(spec: Spec, folder: SweepFolder, progress: Progress) -> Spec:
    """The spec, with the rungs that its folder began with where it names none.

    What a silent file means has changed between versions, and a sweep goes on as it began.
    """
    path = folder.fetched_spec()
    if path is None or "halving" in spec.search.model_fields_set:
        return spec
    begun = load_resolved(path).search.halving
    if begun != spec.search.halving:
        rungs = json.dumps(begun.model_dump(exclude_none=True) if begun else None)
        progress.say(f"trials are stopped as this sweep began: search.halving: {rungs}")
    search = spec.search.model_copy(update={"halving": begun})
    return spec.model_copy(update={"search": search})


def _check_folder(spec: Spec, folder: SweepFolder) -> None:
    """Refuse to continue a sweep under other rules."""
    path = folder.fetched_spec()
    if path is None:
        return
    old, new = _rules(load_resolved(path)), _rules(spec)
    changed = [key for key in FIXED if old[key] != new[key]]
    for part, keys in FIXED_IN.items():
        changed += [f"{part}.{k}" for k in keys if old[part][k] != new[part][k]]
    changed += [f"tasks.{key}.{name}" for key, name in _redefined(old["tasks"], spec)]
    if changed and folder.results():
        raise InputError(
            f"{folder.path} holds results of a sweep with another {', '.join(changed)}; give this "
            "sweep another name or storage"
        )


def _rules(spec: Spec) -> dict[str, Any]:
    """A spec as plain data, without the places of weights: `_check_results` compares the bytes."""
    plain = spec.model_dump(mode="json")
    for backbone in plain["backbones"]:
        if backbone["weights"] not in ("timm", "random"):
            backbone["weights"] = "a file"
    return plain


def _redefined(old: list[Any], spec: Spec) -> Iterator[tuple[str, str]]:
    """What changed of the user's own tasks, though their images did not."""
    earlier = {task["name"]: task for task in old if isinstance(task, dict)}
    for key, task in spec.catalog.items():
        for name in ("metric", "resize", "augment", "limit"):
            if key in earlier and earlier[key].get(name) != getattr(task, name):
                yield key, name


def _check_results(
    spec: Spec, folder: SweepFolder, identity: Identity, results: Iterable[Result]
) -> None:
    """Refuse to put results of other images, weights or methods into one table with new ones."""
    lost = folder.fetched_spec() is None
    known = set(studies(spec))
    for result in results:
        source = identity.methods.get(result.method)
        if source and result.code.method != source.digest:
            raise InputError(
                f"{folder.path} holds results of method {result.method!r} made with another source "
                f"({result.code.method}, now {source.digest}); give this sweep another name or "
                "storage"
            )
        expected = identity.tasks.get(result.task)
        if expected and result.data.fingerprint != expected:
            raise InputError(
                f"{folder.path} holds results of {result.task} made from other images "
                f"(fingerprint {result.data.fingerprint}, now {expected}); give this sweep "
                "another name or storage"
            )
        # All else that an id is made of is the same by now, unless spec.yaml is lost.
        if result.study in known and not made_by(spec, identity, result):
            rules = "under other rules, or " if lost else ""
            raise InputError(
                f"{folder.path} holds results of backbone {result.backbone!r} made {rules}with "
                f"other weights (such as {result.id}); give this sweep another name or storage"
            )


def _check_methods(spec: Spec, name: str, model: Any) -> None:
    """Adapt a backbone by each method, in each of the variants that its studies use."""
    variants: list[tuple[str, dict[str, Any]]] = []
    for study in spec.studies:
        if study.backbone == name:
            options = METHODS[study.method].options
            given = spec.search.space.get(study.method, {}), spec.search.fixed.get(str(study), {})
            variant = {key: some[key] for some in given for key in options if key in some}
            if (study.method, variant) not in variants:
                variants.append((study.method, variant))
    for method, variant in variants:
        try_adapt(model, name, method, **variant)

"""Several sweeps -> one table.

A table compares what stands in it, so sweeps whose finals mean different things are refused: other
images under a task's name, other weights under a backbone's, another split to train finals on,
other seeds. How well a method was searched for and trained may differ; the table says so.

A method that two sweeps ran on the same task has a line for each of them. One that they ran on
different tasks has one line over all of these tasks.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from arc_train.errors import InputError
from orchestrator.leaderboard.board import Protocol, line_name
from orchestrator.leaderboard.source import Source
from orchestrator.spec import Spec
from orchestrator.store.result import Result, Study

Line = tuple[str, str]  # backbone, method


def join(sources: Sequence[Source]) -> Source:
    """The studies of all sweeps in one table, each line named with the sweep that it is of.

    Raises:
        InputError: sweeps whose finals can't be compared, or one of them twice.
    """
    if len(sources) == 1:
        return sources[0]
    named = _told_apart(sources)
    for pair in itertools.combinations(named, 2):
        _refuse(*pair)
    names = _line_names(named)
    results, studies, sweeps = [], [], {}
    for sweep in named:
        planned = set(sweep.studies)
        for study in sweep.studies:
            shown = replace(study, method=names[sweep.name, study.backbone, study.method])
            studies.append(shown)
            sweeps[shown] = sweep.name
        results += [
            replace(result, method=names[sweep.name, result.backbone, result.method])
            for result in sweep.results
            if result.study in planned
        ]
    protocols = [sweep.protocol for sweep in named]
    known = all(protocol.final_on for protocol in protocols)
    return Source(
        name=" + ".join(sweep.name for sweep in named),
        place=" ".join(sweep.place for sweep in named),
        spec=None,
        protocol=Protocol(
            protocols[0].final_on if known else None,
            any(protocol.leak_meter for protocol in protocols),
            protocols[0].seeds,
        ),
        results=results,
        studies=_completed(studies),
        groups=_merged(sweep.groups for sweep in named),
        backbones=_merged(sweep.backbones for sweep in named),
        unreadable=[f"{sweep.name}: {fault}" for sweep in named for fault in sweep.unreadable],
        predictions=_merged(sweep.predictions for sweep in named),
        sweeps=sweeps,
        differences=list(_differences(named)),
    )


def _completed(studies: Sequence[Study]) -> list[Study]:
    """The studies, and those that a line lacks of its backbone's tasks: no mean is without them."""
    lines = dict.fromkeys((study.backbone, study.method) for study in studies)
    tasks = dict.fromkeys((study.backbone, study.task) for study in studies)
    return [
        Study(backbone, method, task)
        for backbone, method in lines
        for other, task in tasks
        if other == backbone
    ]


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sweeps, those of one name renamed to as much of their places as tells them apart."""
    twice = [place for place, count in Counter(s.place for s in sources).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice; a table has each sweep once")
    names = Counter(sweep.name for sweep in sources)
    return [replace(s, name=_tail(s, sources)) if names[s.name] > 1 else s for s in sources]


def _tail(sweep: Source, sources: Sequence[Source]) -> str:
    """The end of a sweep's place that no other has: `there/pets`."""
    parts = sweep.place.split("/")
    others = [other.place.split("/") for other in sources if other.place != sweep.place]
    tails = (parts[-count:] for count in range(1, len(parts)))
    unlike = (tail for tail in tails if all(o[-len(tail) :] != tail for o in others))
    return "/".join(next(unlike, parts))


def _line_names(sources: Sequence[Source]) -> dict[tuple[str, str, str], str]:
    """(sweep, backbone, method) -> the name of the line that its studies stand in."""
    tasks: dict[Line, dict[str, set[str]]] = {}
    for sweep in sources:
        for study in sweep.studies:
            ran = tasks.setdefault((study.backbone, study.method), {})
            ran.setdefault(sweep.name, set()).add(study.task)
    return {
        (sweep, backbone, method): method if _one_line(ran) else line_name(method, sweep)
        for (backbone, method), ran in tasks.items()
        for sweep in ran
    }


def _one_line(ran: Mapping[str, set[str]]) -> bool:
    """Whether several sweeps ran a method, all on different tasks."""
    counted = Counter(task for tasks in ran.values() for task in tasks)
    return len(ran) > 1 and max(counted.values()) == 1


def _refuse(a: Source, b: Source) -> None:
    """Refuse two sweeps whose finals can't stand in one table."""
    faults = []
    trained_on = a.protocol.final_on, b.protocol.final_on
    if None not in trained_on and trained_on[0] != trained_on[1]:
        faults.append("finals train on {} in {} and on {} in {}".format(*_zip(trained_on, a, b)))
    if a.protocol.seeds != b.protocol.seeds:
        seeds = [", ".join(map(str, sweep.protocol.seeds)) for sweep in (a, b)]
        faults.append("the seeds of finals are {} in {} and {} in {}".format(*_zip(seeds, a, b)))
    faults += [f"{task} has other images" for task in _differing(a, b, "task", _images)]
    faults += [f"{name} has other weights" for name in _differing(a, b, "backbone", _weights)]
    if faults:
        raise InputError(
            f"{a.name} and {b.name} can't stand in one table: {'; '.join(faults)}; make a "
            "leaderboard of each, or run one of them again as the other was"
        )


def _zip(values: Sequence[Any], a: Source, b: Source) -> tuple[Any, ...]:
    return values[0], a.name, values[1], b.name


def _differing(a: Source, b: Source, part: str, seen: Callable[[Result], Any]) -> list[str]:
    """The tasks or backbones whose finals saw something else in one sweep than in the other."""
    found = []
    for sweep in (a, b):
        by_name: dict[str, set[Any]] = {}
        for result in sweep.results:
            if result.kind == "final" and result.status == "done" and seen(result) is not None:
                by_name.setdefault(getattr(result, part), set()).add(seen(result))
        found.append(by_name)
    return [name for name in found[0] if name in found[1] and found[0][name] != found[1][name]]


def _images(final: Result) -> Any:
    return final.data.fingerprint, final.data.metric


def _weights(final: Result) -> Any:
    if final.weights is None:  # older than what names them
        return None
    return final.weights.sha256 or (final.weights.source, final.weights.revision)


def _differences(sources: Sequence[Source]) -> Iterator[str]:
    """What one sweep did more of than another, or otherwise; by the keys of sweep files."""
    known = [(sweep.name, _effort(sweep.spec)) for sweep in sources if sweep.spec]
    for key in known[0][1] if known else ():
        if len({effort[key] for _, effort in known}) > 1:
            yield f"{key} {', '.join(f'{effort[key]} in {name}' for name, effort in known)}"
    for sweep in sources:
        if sweep.spec is None:
            yield f"how {sweep.name} was searched and trained isn't known (no spec.yaml)"


def _effort(spec: Spec) -> dict[str, str]:
    """How hard a sweep tried: its search, selection, training and input, by key, as text."""
    content = {
        **_flat("search", spec.search.model_dump()),
        **_flat("selection", spec.selection.model_dump()),
        **_flat("training", spec.training.model_dump()),
        "data.normalise": spec.data.normalise,
    }
    return {key: _text(value) for key, value in content.items()}


def _flat(part: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}.{key}": value for key, value in content.items()}


def _text(value: Any) -> str:
    """A value as a sweep file has it."""
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def _merged(parts: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}

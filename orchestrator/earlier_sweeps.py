"""What a new sweep takes from earlier ones: the trials that `search.learn_from` names."""

import json
from collections.abc import Iterator

from arc_train.errors import InputError
from orchestrator import contents
from orchestrator.contents import Contents
from orchestrator.spec import Spec
from orchestrator.store.folder import SweepFolder
from orchestrator.store.learned import EarlierStudy, Learned, Tried, learned_in, write_learned
from orchestrator.store.result import Result, by_study


def learn(spec: Spec, folder: SweepFolder) -> Learned:
    """What a sweep has learned, copied from earlier sweeps when it first runs.

    Raises:
        InputError: what is named is no sweep's folder, or has no trial of the sweep's methods.
    """
    known = learned_in(folder)
    if known is None and spec.search.learn_from:
        known = Learned(tuple(s for place in spec.search.learn_from for s in _read(spec, place)))
        write_learned(folder, known)
    return known or Learned()


def _read(spec: Spec, place: str) -> list[EarlierStudy]:
    found = contents.read(SweepFolder(place))
    studies = [study for study in _studies(found) if study.study.method in spec.methods]
    if not studies:
        raise InputError(
            f"{place} has no search trial of {', '.join(spec.methods)}: nothing can be learned "
            "from it at search.learn_from"
        )
    return studies


def _studies(found: Contents) -> Iterator[EarlierStudy]:
    """The studies of a sweep whose search has trials that ended."""
    of_study = by_study(found.search_trials(found.results.values()))
    for study, results in sorted(of_study.items()):
        # In an order that no id decides, as with the sweep's own.
        results.sort(key=lambda result: json.dumps(result.config, sort_keys=True))
        yield EarlierStudy(found.name, study, tuple(map(_tried, results)))


def _tried(result: Result) -> Tried:
    ended_well = result.status in ("done", "stopped")
    return Tried(result.config, result.val_accuracy if ended_well else None)

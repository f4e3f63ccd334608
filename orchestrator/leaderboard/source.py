"""What a leaderboard is made from, as a sweep's folder has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from arc_train.backbone import Backbone
from arc_train.predictions import Predictions
from orchestrator.contents import Contents
from orchestrator.leaderboard.board import Protocol
from orchestrator.search.selection import metered_alike
from orchestrator.spec import Spec
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result, Study


@dataclass(frozen=True)
class Source:
    """A sweep, or several joined into one table (joint.py).

    place: its folder or URI. spec: None where spec.yaml can't be read, or of several sweeps.
    results: those that count. studies: in the order to show. groups: task -> group. unreadable:
    what is wrong with files that are left aside. predictions: of finals, by id. sweeps: of several
    sweeps, whose each study is. differences: in how these sweeps were searched and trained.
    """

    name: str
    place: str
    spec: Spec | None
    protocol: Protocol
    results: Sequence[Result]
    studies: Sequence[Study]
    groups: Mapping[str, str]
    backbones: Mapping[str, Backbone]
    unreadable: Sequence[str]
    predictions: Mapping[str, Predictions]
    sweeps: Mapping[Study, str] = field(default_factory=dict)
    differences: Sequence[str] = ()


def source(folder: SweepFolder, contents: Contents) -> Source:
    """What the leaderboard of a sweep's folder is made from."""
    tested = [result.id for result in contents.results.values() if result.kind == "final"]
    final_on = contents.spec.protocol.final_on if contents.spec else None
    return Source(
        contents.name,
        folder.place,
        contents.spec,
        Protocol(final_on, contents.leak_meter, contents.seeds),
        metered_alike(contents.results.values(), contents.leak_meter),
        contents.studies,
        contents.groups,
        contents.backbones,
        contents.unreadable,
        {trial: found for trial in tested if (found := folder.predictions_of(trial))},
    )

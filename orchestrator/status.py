"""How far a sweep is, from its folder alone: from another terminal or machine, at any time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from filelock import FileLock, Timeout

from arc_train.hyperparameters.space import Config
from orchestrator.plan import budget, studies
from orchestrator.search.selection import Candidate, metered_alike, select
from orchestrator.spec import Spec, load
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackKind
from orchestrator.store.result import Result, Study


@dataclass(frozen=True)
class StudyStatus:
    """One study: trials that ended of those expected, and the best so far."""

    study: str
    search: int
    search_expected: int
    finals: int
    finals_expected: int
    best_val_accuracy: float | None
    config: Config | None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        return self.search >= self.search_expected and self.finals >= self.finals_expected


@dataclass(frozen=True)
class PackStatus:
    """A pack that was started and has trials without a result."""

    study: str
    kind: PackKind
    trials: int
    ended: int


@dataclass(frozen=True)
class SweepStatus:
    """A sweep's folder.

    running: whether a driver works in it. statuses: trials by status. complete: how many studies
    are.
    """

    sweep: str
    running: bool
    statuses: Mapping[str, int]
    complete: int
    studies: tuple[StudyStatus, ...]
    packs_begun: tuple[PackStatus, ...]


def status(path: str) -> SweepStatus:
    """The state of a sweep's folder. Changes nothing in it.

    Raises:
        InputError: it is no sweep's folder.
    """
    folder = SweepFolder(path)
    spec = load(folder.resolved_spec())
    results = folder.results()
    ended: dict[Study, list[Result]] = {}
    for result in metered_alike(results.values(), spec.protocol.leak_meter):
        if result.status != "failed":
            ended.setdefault(result.study, []).append(result)
    lines = tuple(_study(spec, study, ended.get(study, [])) for study in studies(spec))
    begun = (
        PackStatus(
            str(pack.study),
            pack.kind,
            len(pack.trials),
            sum(trial.id in results for trial in pack.trials),
        )
        for pack in folder.pack_records()
    )
    return SweepStatus(
        sweep=spec.name,
        running=_running(folder),
        statuses=dict(sorted(Counter(result.status for result in results.values()).items())),
        complete=sum(line.complete for line in lines),
        studies=lines,
        packs_begun=tuple(pack for pack in begun if pack.ended < pack.trials),
    )


def _study(spec: Spec, study: Study, own: list[Result]) -> StudyStatus:
    # Results under other seeds are those of the best trials, validated again.
    searched = [r for r in own if r.kind == "search" and r.seed == spec.seed]
    best = select(map(Candidate.of, own))
    return StudyStatus(
        study=str(study),
        search=len(searched),
        search_expected=budget(spec, study),
        finals=sum(result.kind == "final" for result in own),
        finals_expected=len(spec.finals.seeds),
        best_val_accuracy=best.val_accuracy if best else None,
        config=best.config if best else None,
    )


def _running(folder: SweepFolder) -> bool:
    """Whether a driver holds the folder. (Seen from the driver's machine, or where locks carry.)"""
    path = folder.path / ".lock"
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a place where nothing can be locked, such as a copy that is read-only
        return False

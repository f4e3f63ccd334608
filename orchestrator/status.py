"""How far a sweep is, from its folder alone: from another terminal or machine, at any time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from arc_train.hyperparameters.space import Config
from orchestrator import contents
from orchestrator.search.selection import Candidate, metered_alike, select
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lock import is_locked
from orchestrator.store.pack import PackKind
from orchestrator.store.result import Result, Study, by_study


@dataclass(frozen=True)
class StudyStatus:
    """One study: trials that ended of those expected, and the best so far.

    How many are expected is None where the folder doesn't tell.
    """

    study: str
    search: int
    search_expected: int | None
    finals: int
    finals_expected: int | None
    best_val_accuracy: float | None
    config: Config | None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run, as far as the folder tells.

        A study none of whose trials was trained to its end has no winner, and no finals.
        """
        if self.search_expected is None or self.finals_expected is None:
            return False
        finals_expected = 0 if self.config is None else self.finals_expected
        return self.search >= self.search_expected and self.finals >= finals_expected


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
    are. unreadable: what is wrong with files that are left aside.
    """

    sweep: str
    running: bool
    statuses: Mapping[str, int]
    complete: int
    studies: tuple[StudyStatus, ...]
    packs_begun: tuple[PackStatus, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether no driver is at work, and all studies are complete or some trial failed.

        What failed is left to another run.
        """
        left = self.complete < len(self.studies) and "failed" not in self.statuses
        return not self.running and not left


def status(path: str) -> SweepStatus:
    """The state of a sweep's folder. Changes nothing in it.

    Raises:
        InputError: it is no sweep's folder.
    """
    folder = SweepFolder(path)
    found = contents.read(folder)
    results = found.results
    counted = metered_alike(results.values(), found.leak_meter)
    ended = by_study(result for result in counted if result.status != "failed")
    lines = tuple(_study(found, study, ended.get(study, [])) for study in found.studies)
    begun = (
        PackStatus(
            str(pack.study),
            pack.kind,
            len(pack.trials),
            sum(trial.id in results for trial in pack.trials),
        )
        for pack in folder.survey_packs()[0]
    )
    return SweepStatus(
        sweep=found.name,
        running=is_locked(folder),
        statuses=dict(sorted(Counter(result.status for result in results.values()).items())),
        complete=sum(line.complete for line in lines),
        studies=lines,
        packs_begun=tuple(pack for pack in begun if pack.ended < pack.trials),
        unreadable=found.unreadable,
    )


def _study(found: contents.Contents, study: Study, own: list[Result]) -> StudyStatus:
    best = select(map(Candidate.of, own))
    return StudyStatus(
        study=str(study),
        search=len(found.search_trials(own)),
        search_expected=found.budget(study),
        finals=sum(result.kind == "final" for result in own),
        finals_expected=len(found.spec.finals.seeds) if found.spec else None,
        best_val_accuracy=best.val_accuracy if best else None,
        config=best.config if best else None,
    )

"""Which pack runs next. Pure bookkeeping over result files: knows nothing of Ray.

A study's search packs come first; when all its trials have results, its winner's finals follow as
one pack. Studies finish independently: none waits for another.
"""

from collections.abc import Iterable, Iterator

from orchestrator.folder import SweepFolder
from orchestrator.leaderboard.select import select
from orchestrator.plan import (
    Identity,
    PackPlan,
    Study,
    Trial,
    final_trials,
    pack,
    pack_size,
    search_trials,
    split,
    studies,
)
from orchestrator.spec import Spec


class StudySearch:
    """One study: the trials it wants, and the packs that will bring the missing ones.

    Everything is rebuilt from result files and pack records, so a study goes on where any earlier
    run, ended in any way, left it.
    """

    def __init__(
        self,
        spec: Spec,
        study: Study,
        identity: Identity,
        folder: SweepFolder,
        records: Iterable[PackPlan],
    ) -> None:
        self.study = study
        self._spec, self._identity, self._folder = spec, identity, folder
        self._records = [record for record in records if record.study == study]
        self._size = pack_size(spec, study)
        self.trials = search_trials(spec, study, identity)
        self.waiting = self._packs("search", self.trials)
        self.running: set[str] = set()
        self.finals: list[Trial] | None = None
        self._advance()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run, failed trials included."""
        return self.finals is not None and not self.waiting and not self.running

    def ended(self, pack_id: str) -> None:
        """A pack ended: its trials' files are there, or marked as failed."""
        self.running.discard(pack_id)
        self._advance()

    def again(self, plan: PackPlan) -> None:
        """A pack failed and is to run again."""
        self.running.discard(plan.id)
        self.waiting.insert(0, plan)

    def _advance(self) -> None:
        if self.finals is None and not self.waiting and not self.running:
            results = [self._folder.result(trial.id) for trial in self.trials]
            winner = select([result for result in results if result])
            self.finals = []
            if winner is not None:
                config = winner["config"]
                self.finals = final_trials(self._spec, self.study, self._identity, config)
            self.waiting = self._packs("final", self.finals)

    def _packs(self, kind: str, wanted: list[Trial]) -> list[PackPlan]:
        """Packs for the wanted trials without a result: those begun before first, as they were."""
        ids = {trial.id for trial in wanted}
        missing = {trial.id for trial in wanted if not self._has_result(trial.id)}
        packs = []
        for record in self._records:
            members = {trial.id for trial in record.trials}
            if record.kind == kind and members <= ids and members & missing:
                packs.append(record)
                missing -= members
        rest = [trial for trial in wanted if trial.id in missing]
        return packs + [pack(kind, self.study, part) for part in split(rest, self._size)]

    def _has_result(self, trial: str) -> bool:
        result = self._folder.result(trial)
        return result is not None and result["status"] != "failed"


class SweepSearch:
    """All studies of a sweep, in order; hands out packs as studies become ready for them."""

    def __init__(self, spec: Spec, identity: Identity, folder: SweepFolder) -> None:
        records = [PackPlan.of(record) for record in folder.pack_records()]
        self.folder = folder
        self.studies = [
            StudySearch(spec, study, identity, folder, records) for study in studies(spec)
        ]
        self._by_study = {search.study: search for search in self.studies}

    @property
    def complete(self) -> bool:
        """Whether every study is complete."""
        return all(study.complete for study in self.studies)

    def next(self) -> PackPlan | None:
        """The next pack, recorded in the folder; None if nothing can start now."""
        for study in self.studies:
            if study.waiting:
                plan = study.waiting.pop(0)
                study.running.add(plan.id)
                self.folder.write_pack(plan.record())
                return plan
        return None

    def ended(self, plan: PackPlan) -> None:
        """Tell that a pack's trials have their result files."""
        self._by_study[plan.study].ended(plan.id)

    def again(self, plan: PackPlan) -> None:
        """Tell that a pack failed and is to run again, before others."""
        self._by_study[plan.study].again(plan)

    def trials(self) -> Iterator[Trial]:
        """Every trial that is wanted as far as is known: finals appear as winners are found."""
        for study in self.studies:
            yield from study.trials
            yield from study.finals or []

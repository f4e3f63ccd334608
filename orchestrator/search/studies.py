"""Which pack runs next. Pure bookkeeping over result files: knows nothing of Ray.

A study goes through its search, in one or several rounds; then, if the spec asks for it, through
its best trials again under other seeds; then through its winner's finals. Studies finish
independently: none waits for another.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from arc_train.hyperparameters.ranking import rank
from arc_train.hyperparameters.searchers import SEARCHERS, Observation, Problem
from arc_train.methods import recommended
from arc_train.packing import split
from arc_train.seeding import seed_of
from orchestrator.plan import (
    Identity,
    final_trials,
    pack,
    pack_size,
    rounds,
    search_trials,
    studies,
    trial_id,
    validation_trials,
)
from orchestrator.search.selection import Candidate, select
from orchestrator.spec import Spec
from orchestrator.store.folder import SweepFolder
from orchestrator.store.learned import Learned, learned_in
from orchestrator.store.pack import PackKind, PackPlan, Trial
from orchestrator.store.result import Result, Study, by_study

History = list[Observation]


class StudySearch:
    """One study: what it has, and the packs that will bring what it lacks.

    Everything is rebuilt from result files and pack records, so a study goes on where any earlier
    run, ended in any way, left it.

    complete: whether nothing is left to run. (What failed in this run is left to the next.)
    """

    def __init__(
        self,
        spec: Spec,
        study: Study,
        identity: Identity,
        results: Iterable[Result],
        records: Iterable[PackPlan],
        others: Callable[[Study], list[History]],
    ) -> None:
        self.study = study
        self.complete = False
        self._spec, self._identity, self._others = spec, identity, others
        self._size = pack_size(spec, study)
        self._totals = list(accumulate(rounds(spec, study)))
        self._records = list(records)
        self._results = {result.id: Candidate.of(result) for result in results}
        begun = [t for record in self._records if record.kind == "search" for t in record.trials]
        # Of results made under another spec (fewer epochs, say) nothing is known here.
        self._searched = {t.id: t for t in begun if t.id == self._search_id(t)}
        self._attempted: set[str] = set()
        self._waiting: list[PackPlan] = []
        self._running: set[str] = set()

    def ready(self) -> bool:
        """Whether a pack can start now."""
        if not self._waiting and not self._running and not self.complete:
            self._waiting = self._due()
            self.complete = not self._waiting
        return bool(self._waiting)

    def next(self) -> PackPlan:
        """The pack to start, of a study that is ready."""
        plan = self._waiting.pop(0)
        self._running.add(plan.id)
        return plan

    def ended(self, plan: PackPlan, results: Iterable[Result]) -> None:
        """A pack ended with these results, failures among them."""
        self._running.discard(plan.id)
        self._attempted |= {trial.id for trial in plan.trials}
        self._results |= {result.id: Candidate.of(result) for result in results}
        if plan.kind == "final":
            self.ready()

    def again(self, plan: PackPlan) -> None:
        """Put a pack that failed first in line, to run again."""
        self._running.discard(plan.id)
        self._waiting.insert(0, plan)

    def history(self) -> History:
        """The search trials that ended, as searchers see them."""
        found = [result for trial in self._searched if (result := self._results.get(trial))]
        # In an order that no id decides: ids depend on the fingerprint of all images.
        found.sort(key=lambda result: json.dumps(result.config, sort_keys=True))
        ended_well = ("done", "stopped")
        return [
            Observation(trial.config, trial.val_accuracy if trial.status in ended_well else None)
            for trial in found
        ]

    def _due(self) -> list[PackPlan]:
        """The packs of the first stage that lacks something."""
        packs = self._packs("search", list(self._searched.values()))
        if not packs and (proposed := self._propose()):
            self._searched |= {trial.id: trial for trial in proposed}
            packs = self._packs("search", proposed)
        if not packs and any(map(self._unfinished, self._searched)):
            return []  # a provisional winner opens no test split
        later = self._later()
        while not packs and (stage := next(later, None)):
            packs = self._packs(*stage)
        return packs

    def _propose(self) -> list[Trial]:
        """The rest of the round that the search is in."""
        known = len(self._searched)
        count = next((total - known for total in self._totals if total > known), 0)
        if not count:
            return []
        problem = Problem(
            self._spec.study_space(self.study),
            seed_of(self._spec.seed, self.study, "configs"),
            recommended(self.study.method).first,
            self.history(),
            self._others(self.study),
        )
        configs = SEARCHERS[self._spec.search.algorithm](problem, count)
        return search_trials(self._spec, self.study, self._identity, configs)

    def _later(self) -> Iterator[tuple[PackKind, list[Trial]]]:
        """(kind, trials) of the stages after the search."""
        of_study = self._spec, self.study, self._identity
        if again := self._spec.selection.revalidate:
            found = map(self._results.get, self._searched)
            done = [trial for trial in found if trial and trial.status == "done"]
            best = sorted(done, key=rank)[:again]
            yield "revalidate", validation_trials(*of_study, [trial.config for trial in best])
        winner = select(self._results.values())
        if winner is not None:
            yield "final", final_trials(*of_study, winner.config)

    def _packs(self, kind: PackKind, wanted: list[Trial]) -> list[PackPlan]:
        """Packs for the wanted trials without a result: those begun before first, as they were.

        A search pack whose record is lost is cut as it was, since its trials raced each other.
        """
        ids = {trial.id for trial in wanted}
        missing = {trial for trial in ids if self._lacks(trial)}
        packs, recorded = [], set[str]()
        for record in self._records:
            members = {trial.id for trial in record.trials}
            if record.kind == kind and members <= ids:
                recorded |= members
                if members & missing:
                    packs.append(record)
                    missing -= members
        raced = kind == "search"
        rest = [t for t in wanted if t.id in missing or (raced and t.id not in recorded)]
        parts = split(rest, self._size)
        return packs + [
            pack(kind, self.study, part) for part in parts if any(t.id in missing for t in part)
        ]

    def _lacks(self, trial: str) -> bool:
        return trial not in self._attempted and self._unfinished(trial)

    def _unfinished(self, trial: str) -> bool:
        result = self._results.get(trial)
        return result is None or result.status == "failed"

    def _search_id(self, trial: Trial) -> str:
        return trial_id(
            self._spec, self.study, self._identity, "search", trial.config, self._spec.seed
        )


class SweepSearch:
    """All studies of a sweep, in order; hands out packs as studies become ready for them.

    found: the results that were there already, by id.
    """

    def __init__(self, spec: Spec, identity: Identity, folder: SweepFolder) -> None:
        self.folder = folder
        self._learned = learned_in(folder) or Learned()
        self.found = folder.results()
        results = by_study(self.found.values())
        records: dict[Study, list[PackPlan]] = {}
        for record in folder.pack_records():
            records.setdefault(record.study, []).append(record)
        self._by_study = {
            study: StudySearch(
                spec,
                study,
                identity,
                results.get(study, []),
                records.get(study, []),
                self._histories,
            )
            for study in studies(spec)
        }
        self.studies = list(self._by_study.values())

    @property
    def complete(self) -> bool:
        """Whether every study is complete, as far as `ready` and `next` have looked."""
        return all(study.complete for study in self.studies)

    def ready(self) -> bool:
        """Whether a pack can start now."""
        return any(study.ready() for study in self.studies)

    def next(self) -> PackPlan | None:
        """The next pack, recorded in the folder; None if nothing can start now."""
        for study in self.studies:
            if study.ready():
                plan = study.next()
                self.folder.write_pack(plan)
                return plan
        return None

    def ended(self, plan: PackPlan) -> None:
        """Take in the results of a pack that ended."""
        results = [self.folder.result(trial.id) for trial in plan.trials]
        self._by_study[plan.study].ended(plan, [result for result in results if result])

    def again(self, plan: PackPlan) -> None:
        """Put a pack that failed first in line, to run again."""
        self._by_study[plan.study].again(plan)

    def _histories(self, asking: Study) -> list[History]:
        """What the other studies of the same method have tried, and those of earlier sweeps."""
        own = [
            search.history()
            for study, search in self._by_study.items()
            if study.method == asking.method and study != asking
        ]
        earlier = [
            [Observation(trial.config, trial.val_accuracy) for trial in known.trials]
            for known in self._learned.studies
            if known.study.method == asking.method
        ]
        return own + earlier

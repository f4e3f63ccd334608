"""What a sweep's folder holds, for those who look at it: as much as can be read, wherever it lies.

Reading needs less than running: no images, no weights, no model, and of the folder its `trials/`
alone. What a file that can't be read would have added is missing, and is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from arc_train.backbone import Backbone
from arc_train.errors import InputError
from arc_train.tasks.catalog import catalog
from orchestrator.plan import budget, studies
from orchestrator.spec import Spec, load_resolved
from orchestrator.spec.model import WandbSpec
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result, Study


@dataclass(frozen=True)
class Contents:
    """A sweep as its folder has it.

    spec: None where spec.yaml is missing or damaged. results: by id. unreadable: the files that
    are left aside, each with the reason.
    """

    name: str
    spec: Spec | None
    results: Mapping[str, Result]
    unreadable: tuple[str, ...] = ()

    @property
    def studies(self) -> list[Study]:
        """The planned ones; without a spec those that have results, by task in known order."""
        if self.spec:
            return studies(self.spec)
        order = {task: place for place, task in enumerate(catalog())}
        found = {result.study for result in self.results.values()}
        return sorted(found, key=lambda study: (order.get(study.task, len(order)), study))

    def search_trials(self, results: Iterable[Result]) -> list[Result]:
        """The search trials that ended.

        Results under other seeds are those of the best trials, validated again.
        """
        return [
            r
            for r in results
            if r.kind == "search"
            and r.status != "failed"
            and (self.spec is None or r.seed == self.spec.seed)
        ]

    def budget(self, study: Study) -> int | None:
        """How many configurations a study tries; None where the folder doesn't tell."""
        if self.spec is None:
            return None
        try:
            return budget(self.spec, study)
        except (LookupError, ValueError):  # a method that isn't here, or another version's space
            return None

    @property
    def groups(self) -> dict[str, str]:
        """Task -> group; of a task that neither the spec nor the catalogue knows, a guess."""
        known = catalog() | (self.spec.catalog if self.spec else {})
        tasks = {**known, **{result.task: None for result in self.results.values()}}
        return {
            t: known[t].group if t in known else t.split("/")[0] if "/" in t else "own"
            for t in tasks
        }

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the finals; without a spec those that finals have."""
        if self.spec:
            return tuple(self.spec.finals.seeds)
        return tuple(sorted({r.seed for r in self.results.values() if r.kind == "final"}))

    @property
    def leak_meter(self) -> bool:
        """Whether finals were tested after every epoch."""
        if self.spec:
            return self.spec.protocol.leak_meter
        return any(result.test_curve is not None for result in self.results.values())

    @property
    def wandb(self) -> WandbSpec:
        """Where its runs go."""
        return self.spec.wandb if self.spec else WandbSpec()

    @property
    def backbones(self) -> dict[str, Backbone]:
        """By name, as far as the spec tells."""
        entries = self.spec.backbones if self.spec else []
        return {entry.name: entry.backbone() for entry in entries}


def read(folder: SweepFolder) -> Contents:
    """What a sweep's folder holds.

    Raises:
        InputError: it is no sweep's folder, or its storage can't be reached.
    """
    results, unreadable = folder.survey()
    notes = [str(fault) for fault in unreadable]
    path = folder.fetched_spec()
    spec = None
    if path:
        try:
            spec = load_resolved(path)
        except InputError as error:
            notes.append(str(error))
    elif not results and not unreadable:
        raise InputError(
            f"{folder.place} is not a sweep folder: it has neither spec.yaml nor results in trials/"
        )
    name = spec.name if spec else PurePosixPath(folder.place).name
    return Contents(name, spec, results, tuple(notes))

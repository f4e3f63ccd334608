"""Spec -> plan: the studies, their trials and their packs; nothing runs here."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arc_train.hyperparameters.space import Config, size
from arc_train.methods.counts import trained
from arc_train.methods.own import Source
from arc_train.packing import most_trials, proposals
from arc_train.recipe import Halving
from arc_train.seeding import seed_of
from orchestrator.spec import Spec
from orchestrator.store.pack import PackKind, PackPlan, Trial
from orchestrator.store.result import Study, TrialInfo


@dataclass(frozen=True)
class Origin:
    """What a study's trials are made from: fingerprints of the weights and of the images.

    source: of a method that is the user's own.
    """

    weights: str
    images: str
    source: Source | None = None


@dataclass(frozen=True)
class Identity:
    """What the trials are made from: fingerprints by backbone name and by task.

    methods: the sources of those methods that are the user's own, by name.
    """

    backbones: Mapping[str, str]
    tasks: Mapping[str, str]
    methods: Mapping[str, Source] = field(default_factory=dict)

    def origin(self, study: Study) -> Origin:
        """Of one study."""
        return Origin(
            self.backbones[study.backbone], self.tasks[study.task], self.methods.get(study.method)
        )


def studies(spec: Spec) -> list[Study]:
    """All studies, in blocks by task."""
    return list(spec.studies)


def budget(spec: Spec, study: Study) -> int:
    """How many configurations a study tries."""
    there_are = size(spec.study_space(study))
    return int(there_are if spec.search.algorithm == "grid" else min(spec.search.trials, there_are))


def rounds(spec: Spec, study: Study) -> list[int]:
    """How many configurations a study is given at a time."""
    return proposals(spec.search.algorithm, budget(spec, study), spec.search.rounds)


def search_trials(
    spec: Spec, study: Study, identity: Identity, configs: Iterable[Config]
) -> list[Trial]:
    """Trials of a study's search. They share the order of batches."""
    order = seed_of(spec.seed, study, "order")
    return [
        Trial(
            id=trial_id(spec, study, identity, "search", config, spec.seed),
            config=config,
            seed=spec.seed,
            init_seed=seed_of(spec.seed, study, json.dumps(config, sort_keys=True), "search"),
            order_seed=order,
        )
        for config in configs
    ]


def validation_trials(
    spec: Spec, study: Study, identity: Identity, configs: Iterable[Config]
) -> list[Trial]:
    """Trials that repeat the best configurations of a search under other seeds."""
    return [
        Trial(
            id=trial_id(spec, study, identity, "revalidate", config, seed),
            config=config,
            seed=seed,
            init_seed=seed_of(seed, study, json.dumps(config, sort_keys=True), "revalidate"),
            order_seed=seed_of(seed, study, "revalidate order"),
        )
        for config in configs
        for seed in range(spec.seed + 1, spec.seed + 1 + spec.selection.seeds)
    ]


def final_trials(spec: Spec, study: Study, identity: Identity, config: Config) -> list[Trial]:
    """The finals of a study's winner, one for each seed.

    A seed changes everything drawn: initialisation, dropout and the order of batches. With a
    shared order the spread over seeds would be understated (to zero for a linear probe).
    """
    return [
        Trial(
            id=trial_id(spec, study, identity, "final", config, seed),
            config=config,
            seed=seed,
            init_seed=seed_of(spec.seed, study, "final", seed),
            order_seed=seed_of(spec.seed, study, "final order", seed),
        )
        for seed in spec.finals.seeds
    ]


def pack(kind: PackKind, study: Study, trials: Sequence[Trial]) -> PackPlan:
    """A pack named by its trials."""
    digest = hashlib.sha256("|".join(trial.id for trial in trials).encode()).hexdigest()
    return PackPlan(digest[:16], kind, study, tuple(trials))


def pack_size(spec: Spec, study: Study) -> int:
    """Most trials in a pack of this study: what the spec says, or what its memory allows."""
    weights = trained(spec.backbone(study.backbone), study.method)
    return most_trials(study.method, weights, spec.pack.size, spec.pack.memory)


def halving(spec: Spec) -> Halving | None:
    """The sweep's rungs."""
    found = spec.search.halving
    return Halving(found.start, found.eta, found.rungs) if found else None


def made_by(spec: Spec, identity: Identity, result: TrialInfo) -> bool:
    """Whether a sweep of this spec makes a result's trial: one of other rules has another id."""
    kinds: tuple[PackKind, ...] = ("final",) if result.kind == "final" else ("search", "revalidate")
    metered = spec.protocol.model_copy(update={"leak_meter": not spec.protocol.leak_meter})
    specs = (spec, spec.model_copy(update={"protocol": metered}))
    return any(
        result.id == trial_id(each, result.study, identity, kind, result.config, result.seed)
        for kind in kinds
        for each in specs
    )


def trial_id(
    spec: Spec, study: Study, identity: Identity, kind: PackKind, config: Config, seed: int
) -> str:
    """16 hex digits of everything that determines the trial's result."""
    halving, origin = spec.search.halving, identity.origin(study)
    determined_by: dict[str, Any] = {
        "kind": kind,
        "study": {"backbone": study.backbone, "method": study.method, "task": study.task},
        "config": {
            name: value if isinstance(value, str) else float(value)
            for name, value in config.items()
        },
        "seed": [spec.seed, seed],
        "training": spec.training.model_dump(),
        "halving": halving.model_dump(exclude_none=True) if kind == "search" and halving else None,
        "final_on": spec.protocol.final_on if kind == "final" else None,
        "normalise": spec.data.normalise,
        "backbone": origin.weights,
        "data": origin.images,
    }
    if (task := spec.catalog[study.task]).location is not None:
        # Of the catalogue's tasks the name says these.
        determined_by["task"] = [task.metric, task.resize, task.augment]
    if origin.source:
        determined_by["method"] = origin.source.digest
    if kind != "final" and task.limit is not None:
        determined_by["limit"] = task.limit
    if kind == "final" and spec.protocol.leak_meter:
        determined_by["leak_meter"] = True  # absent otherwise: ids are as they were without it
    return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:16]

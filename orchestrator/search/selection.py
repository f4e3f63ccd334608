"""The selection rule: which trial of a search wins. It has no test accuracy to look at."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean

from arc_train.hyperparameters.ranking import rank
from arc_train.hyperparameters.space import Config
from orchestrator.store.result import Kind, Result, Status


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial as the selection rule sees it: small, so that all of a sweep's fit into memory."""

    id: str
    kind: Kind
    config: Config
    seed: int
    status: Status
    val_accuracy: float | None
    val_loss: float | None
    trainable_params: int | None

    @staticmethod
    def of(result: Result) -> "Candidate":
        """A result without its curve, its test accuracy and where it comes from."""
        return Candidate(
            result.id,
            result.kind,
            result.config,
            result.seed,
            result.status,
            result.val_accuracy,
            result.val_loss,
            result.trainable_params,
        )


def select(candidates: Iterable[Candidate]) -> Candidate | None:
    """The winner among a study's search trials, or None if none was trained to the end.

    The first by `rank`. Where configurations were validated again, only those under the most seeds
    compete, each with its mean.
    """
    by_config: dict[str, list[Candidate]] = {}
    for trial in candidates:
        if trial.kind == "search" and trial.status == "done":
            by_config.setdefault(json.dumps(trial.config, sort_keys=True), []).append(trial)
    most = max(map(len, by_config.values()), default=0)
    return min((_mean(t) for t in by_config.values() if len(t) == most), key=rank, default=None)


def finals(results: Iterable[Result], winner: Candidate | None) -> list[Result]:
    """The finished finals of the winner's configuration: those of an earlier winner don't count."""
    return [
        result
        for result in results
        if result.kind == "final"
        and result.status == "done"
        and winner is not None
        and result.config == winner.config
    ]


def metered_alike(results: Iterable[Result], leak_meter: bool) -> list[Result]:
    """Without the finals of the other kind, where the leak meter was turned on or off since."""
    return [
        result
        for result in results
        if result.kind == "search"
        or result.status == "failed"
        or (result.test_curve is not None) == leak_meter
    ]


def _mean(trials: list[Candidate]) -> Candidate:
    """One configuration's trial under the search's seed, with the means over all its seeds."""
    if len(trials) == 1:
        return trials[0]
    return replace(
        min(trials, key=lambda trial: trial.seed),
        val_accuracy=fmean(t.val_accuracy for t in trials if t.val_accuracy is not None),
        val_loss=fmean(t.val_loss for t in trials if t.val_loss is not None),
    )

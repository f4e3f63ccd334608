"""The selection rule: which trial of a search wins. It has no test accuracy to look at."""

import json
from collections.abc import Iterable
from statistics import fmean

from orchestrator.store.folder import Result


def select(results: Iterable[Result]) -> Result | None:
    """The winner among a study's search trials, or None if none was trained to the end.

    Highest validation accuracy; ties (200 images make many) go to the lower validation loss,
    then to fewer trainable parameters, then to the smaller lr, at last by the words: the order in
    which trials finished never matters. Where configurations were validated again, only those
    under the most seeds stand for election, each with its mean.
    """
    by_config: dict[str, list[Result]] = {}
    for result in results:
        if result["kind"] == "search" and result["status"] == "done":
            by_config.setdefault(json.dumps(result["config"], sort_keys=True), []).append(result)
    most = max(map(len, by_config.values()), default=0)
    return min((_mean(r) for r in by_config.values() if len(r) == most), key=rank, default=None)


def finals(results: Iterable[Result], winner: Result | None) -> list[Result]:
    """The finished finals of the winner's configuration: those of an earlier winner don't count."""
    return [
        result
        for result in results
        if result["kind"] == "final"
        and result["status"] == "done"
        and winner is not None
        and result["config"] == winner["config"]
    ]


def metered_alike(results: Iterable[Result], leak_meter: bool) -> list[Result]:
    """Without the finals of the other kind, where the leak meter was turned on or off since."""
    return [
        result
        for result in results
        if result["kind"] == "search"
        or result["status"] == "failed"
        or ("test_curve" in result) == leak_meter
    ]


def _mean(results: list[Result]) -> Result:
    """One configuration's result under the search's seed, with the means over all its seeds."""
    if len(results) == 1:
        return results[0]
    means = {
        name: fmean(result[name] for result in results) for name in ("val_accuracy", "val_loss")
    }
    return {**min(results, key=lambda result: result["seed"]), **means}


def rank(result: Result) -> tuple[float, float, int, float, str]:
    """Sorts finished trials by the selection rule, the best first."""
    return (
        -result["val_accuracy"],
        result["val_loss"],
        result["trainable_params"],
        result["config"]["lr"],
        json.dumps(result["config"], sort_keys=True),
    )

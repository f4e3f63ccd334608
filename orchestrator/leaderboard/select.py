"""The selection rule: which trial of a search wins. It has no test accuracy to look at."""

from collections.abc import Iterable

from orchestrator.folder import Result


def select(results: Iterable[Result]) -> Result | None:
    """The winner among a study's search trials, or None if none was trained to the end.

    Highest validation accuracy; ties (200 images make many) go to the lower validation loss,
    then to fewer trainable parameters, then to the smaller lr, at last to the id: the order in
    which trials finished never matters.
    """
    finished = [r for r in results if r["kind"] == "search" and r["status"] == "done"]
    return min(finished, key=_rank, default=None)


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


def _rank(result: Result) -> tuple[float, float, int, float, str]:
    return (
        -result["val_accuracy"],
        result["val_loss"],
        result["trainable_params"],
        result["config"]["lr"],
        result["id"],
    )

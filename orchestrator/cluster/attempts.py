"""How often packs failed in this run, and what becomes of them. Knows nothing of Ray.

It outlives a Tuner: where one breaks, the next goes on with the same counts.
"""

from collections import Counter
from dataclasses import asdict

from orchestrator.cluster.provenance import code_of, package_versions
from orchestrator.cluster.report import PackReport, Reports
from orchestrator.plan import Identity, Origin
from orchestrator.search.studies import SweepSearch
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan, Trial
from orchestrator.store.record import Unreadable
from orchestrator.store.result import DataInfo, Result


class Attempts:
    """Tries failed packs again, as often as the spec's `max_failures` allows, or gives them up."""

    def __init__(
        self,
        search: SweepSearch,
        folder: SweepFolder,
        identity: Identity,
        max_failures: int,
        reports: Reports,
    ) -> None:
        self._search, self._folder, self._identity = search, folder, identity
        self._max_failures, self._reports = max_failures, reports
        self._failures: Counter[str] = Counter()

    def failed(self, plan: PackPlan, reason: BaseException) -> None:
        """A pack's worker failed: run the pack again, from its checkpoint, or give it up.

        A preempted node counts as no failure, as with Tune. Where only the pack's last report was
        lost, its results being there, it isn't run again: it would train in vain, and finals would
        open their test split once more.
        """
        if report := self._last_report(plan):
            self._search.ended(plan)
            self._reports.reported(plan, report)
            return
        if not getattr(reason, "preempted", False):
            self._failures[plan.id] += 1
        note = " ".join(f"{type(reason).__name__}: {reason}".split())
        if self._failures[plan.id] <= self._max_failures:
            self._search.again(plan)
            self._reports.failed(plan, [], note)
            return
        origin = self._identity.origin(plan.study)
        missing = [trial for trial in plan.trials if self._folder.result(trial.id) is None]
        results = [_failed(plan, trial, origin, note) for trial in missing]
        for result in results:
            self._folder.write_result(result)
        self._search.ended(plan)
        self._reports.failed(plan, results, note)

    def _last_report(self, plan: PackPlan) -> PackReport | None:
        """What the worker would have reported at its end; None if a trial has no result."""
        try:
            results = [self._folder.result(trial.id) for trial in plan.trials]
        except Unreadable:
            return None
        ended = [result for result in results if result and result.status != "failed"]
        if len(ended) < len(plan.trials):
            return None
        return PackReport(
            pack=plan.id,
            epoch=max(result.epochs_run for result in ended),
            alive=0,
            images=0,
            seconds=sum(result.seconds for result in ended),
            ended=tuple(result.id for result in ended),
            curves={},
            done=True,
        )


def _failed(plan: PackPlan, trial: Trial, origin: Origin, error: str) -> Result:
    """What the driver writes for a trial whose pack could not be run."""
    return Result(
        **asdict(plan.info(trial)),
        epochs_run=0,
        status="failed",
        note=error,
        val_accuracy=None,
        val_loss=None,
        test_accuracy=None,
        trainable_params=None,
        adapter_params=None,
        curve=(),
        seconds=0.0,
        data=DataInfo(variant=None, fingerprint=origin.images),
        code=code_of(origin.source),
        packages=package_versions(),
        device=None,
    )

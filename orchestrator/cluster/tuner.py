"""The one Ray Tuner of a sweep: a searcher that routes packs to workers, and nothing more.

Tune keeps no state that we need: its own experiment files go to a scratch folder and are dropped.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from orchestrator.cluster import capacity
from orchestrator.cluster.attempts import Attempts
from orchestrator.cluster.connection import connection
from orchestrator.cluster.failure import failure_of
from orchestrator.cluster.interrupt import check_interrupts
from orchestrator.cluster.report import PackReport, Reports
from orchestrator.cluster.scratch import scratch
from orchestrator.cluster.worker import PackWorker
from orchestrator.plan import Identity
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec
from orchestrator.store.folder import SweepFolder, Unwritable
from orchestrator.store.pack import PackPlan, pack_text


def drive(
    spec: Spec, folder: SweepFolder, identity: Identity, search: SweepSearch, reports: Reports
) -> None:
    """Run packs until the search is complete.

    Raises:
        InputError: no node can hold a pack, its GPU can't be used, or Ray can't be started.
        ClusterLost: the cluster's head died.
        Exception: what our own part of the driver raised, as it was raised.
    """
    attempts = Attempts(search, folder, identity, spec.resources.max_failures, reports)
    while True:
        try:
            with scratch() as place, connection(place):
                gpus = capacity.gpus_per_pack(spec.resources.gpu, reports.say)
                own = spec.with_gpus(gpus)
                _fit(_RoutedSearcher(own, folder, identity, search, attempts, reports), place)
                return
        except _Broken as broken:
            broken.searcher.broken(broken.reason)


class _Broken(Exception):
    """A Tuner raised something: a death that breaks it rather than a pack.

    In 2.60 that of a worker killed for memory does.
    """

    def __init__(self, searcher: "_RoutedSearcher", reason: Exception) -> None:
        super().__init__(str(reason))
        self.searcher, self.reason = searcher, reason


def _fit(searcher: "_RoutedSearcher", scratch: Path) -> None:
    """Run packs with one Tuner.

    Raises:
        _Broken: what ran has failed, and another Tuner, on fresh workers, can go on.
        Exception: as `drive`.
    """
    capacity.check_fits(searcher.need)
    tuner = tune.Tuner(
        tune.with_resources(PackWorker, searcher.need),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
            callbacks=[_Watch(searcher)],
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        if searcher.fault is not None:
            raise searcher.fault from None
        if not searcher.ran:
            raise  # another would break the same way
        raise _Broken(searcher, error) from error


class _Unsaved:
    """Pickled by Tune as an empty object: the sweep folder is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _RoutedSearcher(_Unsaved, Searcher):
    """Hands Tune the next pack of whichever study is ready."""

    def __init__(
        self,
        spec: Spec,
        folder: SweepFolder,
        identity: Identity,
        search: SweepSearch,
        attempts: Attempts,
        reports: Reports,
    ) -> None:
        super().__init__(metric="epoch", mode="max")
        self._folder, self._identity = folder, identity
        self._search, self._attempts, self.reports = search, attempts, reports
        # Texts, since of each pack's config Tune keeps some copies: of a text there is one.
        self._spec = spec.with_absolute_weights().model_dump_json()
        self.need = {"cpu": spec.resources.cpu, "gpu": spec.gpus}
        self._live: set[str] = set()  # handed out, and not ended
        self.begun: set[str] = set()  # given to a worker
        self.packs: dict[str, PackPlan] = {}
        self.fault: Exception | None = None

    @property
    def ran(self) -> set[str]:
        """What a worker's death took along, as Tune's trials: the packs that workers have.

        Where none has one yet, those that wait: their workers died while they started.
        """
        return self._live & self.begun or set(self._live)

    @contextlib.contextmanager
    def keep_faults(self) -> Iterator[None]:
        """Keep an error of our own code: Tune takes it for a trial's and goes on."""
        try:
            yield
        except Exception as error:
            self.fault = self.fault or error
            raise

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next pack; None when none can start yet; FINISHED at the end."""
        with self.keep_faults():
            if len(self._live) >= capacity.desired_packs(self.need):
                return None
            plan = self._search.next()
            if plan is None:
                finished: str = Searcher.FINISHED
                return finished if self._search.complete else None
            self.packs[trial_id] = plan
            self._live.add(trial_id)
            self.reports.started(plan)
        return {
            "pack": pack_text(plan),
            "spec": self._spec,
            "folder": self._folder.place,
            "origin": self._identity.origin(plan.study),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A pack ended. If it failed, Tune calls `on_trial_error` next, with the reason."""
        self._live.discard(trial_id)
        if not error:
            with self.keep_faults():
                self._search.ended(self.packs[trial_id])

    def failed(self, trial_id: str, reason: BaseException) -> None:
        """A pack's worker failed.

        Tune's own retries leave out a worker that dies between two packs: it is waiting for its
        next one then, not running.
        """
        if isinstance(reason, Unwritable):
            raise reason  # it isn't the pack's fault: no other could keep its results either
        self._attempts.failed(self.packs[trial_id], reason)

    def broken(self, reason: Exception) -> None:
        """The Tuner broke: the packs that ran have failed, the others wait again."""
        for trial_id in sorted(self._live - self.ran):
            self._search.again(self.packs[trial_id])
        for trial_id in sorted(self.ran):
            self.failed(trial_id, reason)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the sweep folder is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Watch(_Unsaved, tune.Callback):
    """Passes on what the workers report."""

    def __init__(self, searcher: _RoutedSearcher) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the run after an interrupt, or after a fault in our own code."""
        check_interrupts()
        if self._searcher.fault is not None:
            raise self._searcher.fault

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker has taken a pack."""
        self._searcher.begun.add(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A step of a pack."""
        with self._searcher.keep_faults():
            plan = self._searcher.packs[trial.trial_id]
            self._searcher.reports.reported(plan, PackReport.from_tune(result))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker failed. Tune has told the searcher so, but not why."""
        if self._searcher.fault is not None:
            return  # none did: it was our own part, and the run is about to end
        with self._searcher.keep_faults():
            self._searcher.failed(trial.trial_id, failure_of(trial))

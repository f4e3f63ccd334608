"""How long a sweep still takes, learned from the packs that ended.

Work is counted in operations, as `plan` does; what a pack's operations cost is learned for each
method on its own, since methods that train little per image wait for other things. With the first
tenth of the work done the forecast is noted, and at the end compared with what it took.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.cost.operations import operations
from orchestrator.cost.work import Work, pack_work, work
from orchestrator.plan import budget, studies
from orchestrator.spec import Spec
from orchestrator.store.pack import PackPlan
from orchestrator.store.result import Kind, Result, Study

SHARE = 0.1  # of the work: enough to forecast from


class Forecast:
    """The forecast of one run of a sweep.

    sizes: task -> images of (train, val, test). results: those that are there already.
    first: when the sweep was expected to end, once a tenth of its work was done.
    """

    def __init__(
        self, spec: Spec, sizes: Mapping[str, tuple[int, int, int]], results: Iterable[Result]
    ) -> None:
        self._spec, self._sizes = spec, sizes
        ended = Counter((r.study, r.kind) for r in results if r.status != "failed")
        self._left = {study: self._missing(study, ended) for study in studies(spec)}
        self._whole = sum(self._left.values())
        self._seconds: dict[str, float] = defaultdict(float)
        self._operations: dict[str, float] = defaultdict(float)
        self._running: dict[str, float] = {}
        self._began: float | None = None
        self.first: float | None = None

    def running(self, plan: PackPlan, seconds: float, now: float) -> None:
        """A pack in training has taken so many seconds of its worker; now: of any one clock."""
        self._running[plan.id] = seconds
        if self._began is None:  # what came before, such as Ray's start, doesn't come again
            self._began = now - seconds

    def ended(self, plan: PackPlan, now: float) -> None:
        """A pack ended."""
        study, method = plan.study, plan.study.method
        pack = pack_work(self._spec, plan.kind, len(plan.trials), self._sizes[study.task], study)
        done = operations(self._spec, study, pack)
        self._seconds[method] += self._running.pop(plan.id, 0.0)
        self._operations[method] += done
        self._left[study] = max(0.0, self._left[study] - done)
        if self.first is None and sum(self._left.values()) <= (1 - SHARE) * self._whole:
            left = self.left(now)
            self.first = None if left is None else now + left

    def left(self, now: float) -> float | None:
        """Seconds until the sweep ends; None before anything is known."""
        seconds, done = sum(self._seconds.values()), sum(self._operations.values())
        if not seconds or not done or self._began is None:
            return None
        usual = seconds / done

        def cost(method: str) -> float:
            known = self._operations.get(method)
            return self._seconds[method] / known if known else usual

        spent = sum(self._running.values())
        ahead = sum(left * cost(study.method) for study, left in self._left.items()) - spent
        workers = (seconds + spent) / (now - self._began)  # that were busy, on average
        return max(0.0, ahead) / workers

    def _missing(self, study: Study, ended: Mapping[tuple[Study, Kind], int]) -> float:
        """Operations of a study's trials that have no result."""
        *search, finals = work(self._spec, study, self._sizes[study.task])
        total = 0.0
        parts: tuple[tuple[Kind, Sequence[Work], int], ...] = (
            ("search", [pack for stage in search for pack in stage], budget(self._spec, study)),
            ("final", finals, len(self._spec.finals.seeds)),
        )
        for kind, packs, expected in parts:
            missing = max(0.0, 1 - ended.get((study, kind), 0) / expected)
            total += missing * sum(operations(self._spec, study, pack) for pack in packs)
        return total

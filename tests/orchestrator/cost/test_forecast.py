"""A forecast is arithmetic on what ended: with packs that cost what they should, it is exact."""

import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_train.packing import split
from orchestrator.cost.forecast import Forecast
from orchestrator.cost.operations import operations
from orchestrator.cost.work import pack_work
from orchestrator.plan import pack, studies
from orchestrator.spec import Spec
from orchestrator.store.pack import PackKind, PackPlan, Trial
from tests.orchestrator.cost.test_estimate import SIZES, spec
from tests.results import result

COST = {"linear": 1e-9, "arc": 3e-9}  # seconds per operation: methods differ


def packs(one: Spec) -> list[PackPlan]:
    """Every pack of a sweep without rounds, in an order of no meaning."""
    made = []
    for study in studies(one):
        counts: dict[PackKind, int] = {"search": one.search.trials, "final": len(one.finals.seeds)}
        for kind, count in counts.items():
            for part in split(range(count), one.pack.size):
                trials = [Trial(f"{study}{kind}{i}", {}, 0, 0, 0) for i in part]
                made.append(pack(kind, study, trials))
    random.Random(0).shuffle(made)
    return made


def seconds(one: Spec, plan: PackPlan) -> float:
    found = pack_work(one, plan.kind, len(plan.trials), SIZES[plan.study.task], plan.study)
    return COST[plan.study.method] * operations(one, plan.study, found)


@given(st.integers(1, 6), st.integers(0, 14), st.integers(1, 3))
def test_one_worker_after_any_number_of_packs(trials: int, after: int, size: int) -> None:
    one = spec(
        methods=["linear", "arc"],
        tasks=list(SIZES),
        search={"trials": trials, "algorithm": "random", "halving": {"start": 2, "eta": 2}},
        pack={"size": size},
    )
    forecast, now = Forecast(one, SIZES, []), 1000.0
    assert forecast.left(now) is None
    every = packs(one)
    known: set[str] = set()
    for plan in every[:after]:
        now += seconds(one, plan)
        forecast.running(plan, seconds(one, plan), now)
        forecast.ended(plan, now)
        known.add(plan.study.method)
    if known == set(COST):
        left = sum(seconds(one, plan) for plan in every[after:])
        assert forecast.left(now) == pytest.approx(left, rel=1e-6, abs=1e-6)


def test_two_workers_take_half_the_time_and_the_first_forecast_stays() -> None:
    one = spec(search={"trials": 16, "algorithm": "random"}, pack={"size": 1})
    every = [plan for plan in packs(one) if plan.kind == "search"]
    cost = seconds(one, every[0])
    forecast, now = Forecast(one, SIZES, []), 0.0
    for pair in zip(every[::2], every[1::2], strict=True):
        now += cost
        for plan in pair:
            forecast.running(plan, cost, now)
        for plan in pair:
            forecast.ended(plan, now)
    finals = [plan for plan in packs(one) if plan.kind == "final"]
    left = sum(seconds(one, plan) for plan in finals) / 2
    assert forecast.left(now) == pytest.approx(left)
    assert forecast.first == pytest.approx(now + left)


def test_a_resumed_sweep_has_only_the_rest_before_it() -> None:
    one = spec(search={"trials": 4, "algorithm": "random"}, finals={"seeds": [0]}, pack={"size": 4})
    (study,) = studies(one)
    done = [result(**asdict(study)) for _ in range(4)]
    (final,) = [plan for plan in packs(one) if plan.kind == "final"]
    forecast = Forecast(one, SIZES, done)
    forecast.running(final, 5.0, 10.0)
    forecast.ended(final, 10.0)
    assert forecast.left(10.0) == 0

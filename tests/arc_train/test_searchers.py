"""Searchers propose what is new and allowed, and those that learn learn."""

import math
import random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_train.hyperparameters.searchers import SEARCHERS, Observation, Problem, portfolio
from arc_train.hyperparameters.space import Choice, Config, Range, Space, random_configs, size

DIMENSIONS = {
    "lr": st.sampled_from([Range(1e-4, 1e-1, True), Choice((0.01,)), Choice((0.001, 0.01, 0.1))]),
    "rank": st.sampled_from([Choice((2, 4, 8)), Choice((16,))]),
    "dropout": st.sampled_from([Range(0.0, 0.5, False), Choice((0, 0.1)), Choice((0,))]),
    "placement": st.sampled_from([Choice(("norm",)), Choice(("norm", "residual", "both"))]),
}
LR: Space = {"lr": Range(1e-4, 1e-1, True), "rank": Choice((2, 4, 8, 16))}


def measured(config: Config, best: float = -2.0) -> Observation:
    """90 % at one learning rate, less away from it; the rank hardly matters."""
    off = math.log10(float(config["lr"])) - best
    return Observation(config, 90.0 - 20.0 * off**2 + 0.1 * float(config["rank"]))


def distance(configs: list[Config], best: float = -2.0) -> float:
    return fmean(abs(math.log10(float(config["lr"])) - best) for config in configs)


@pytest.mark.parametrize("algorithm", ["portfolio", "random", "tpe"])
@settings(max_examples=25)
@given(
    space=st.fixed_dictionaries(DIMENSIONS),
    seed=st.integers(0, 2**64),
    count=st.integers(1, 6),
    tried=st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=6),
    others=st.lists(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=5), max_size=3),
)
def test_proposals_are_new_allowed_and_as_many_as_there_are(
    algorithm: str, space: Space, seed: int, count: int, tried: Any, others: Any
) -> None:
    own = [
        Observation(c, a) for c, a in zip(random_configs(space, 1, len(tried)), tried, strict=False)
    ]
    elsewhere = [
        [Observation(c, a) for c, a in zip(random_configs(space, 2, len(h)), h, strict=False)]
        for h in others
    ]
    first = {"lr": 0.01, "rank": 4, "dropout": 0.1}
    found = SEARCHERS[algorithm](Problem(space, seed, first, own, elsewhere), count)
    assert len(found) == min(count, size(space) - len(own))
    for config in found:
        assert config.keys() == space.keys()
        for name, dimension in space.items():
            if isinstance(dimension, Choice):
                assert config[name] in dimension.values
            else:
                assert dimension.low <= float(config[name]) <= dimension.high
    everything = [str(sorted(c.items())) for c in [*found, *(t.config for t in own)]]
    assert len(set(everything)) == len(everything)


def test_a_grid_is_tried_in_order_once() -> None:
    space: Space = {"lr": Choice((0.1, 0.01)), "rank": Choice((2, 4))}
    first = SEARCHERS["grid"](Problem(space, 0, {}, []), 3)
    rest = SEARCHERS["grid"](Problem(space, 0, {}, [Observation(c, 1.0) for c in first]), 9)
    assert len(first + rest) == 4
    assert not [config for config in rest if config in first]


def test_the_portfolio_starts_with_the_recommendation_then_with_what_did_well_elsewhere() -> None:
    others = [[measured(c) for c in random_configs(LR, seed, 12)] for seed in range(5)]
    found = portfolio(Problem(LR, 0, {"lr": 0.03, "rank": 4}, [], others), 5)
    assert found[0] == {"lr": 0.03, "rank": 4}
    assert distance(found[1:]) < 0.3 < distance(random_configs(LR, 0, 4))


def test_its_own_results_outweigh_those_of_others() -> None:
    others = [[measured(c) for c in random_configs(LR, seed, 12)] for seed in range(5)]
    own = [measured(c, best=-3.5) for c in random_configs(LR, 7, 12)]
    found = portfolio(Problem(LR, 0, {}, own, others), 3)
    assert distance(found, best=-3.5) < 0.3


@pytest.mark.parametrize("algorithm", ["portfolio", "tpe"])
def test_with_rounds_a_search_that_learns_gets_nearer_than_chance(algorithm: str) -> None:
    def best(name: str, seed: int) -> float:
        own: list[Observation] = []
        for _ in range(4):
            found = SEARCHERS[name](Problem(LR, seed, {}, own), 4)
            own += [measured(config) for config in found]
        return max(tried.accuracy or 0 for tried in own)

    gain = [best(algorithm, seed) - best("random", seed) for seed in range(8)]
    assert fmean(gain) > 0


def test_where_trials_diverge_it_does_not_go_on() -> None:
    configs = random_configs(LR, 3, 16)
    own = [measured(c, -3) if float(c["lr"]) < 0.01 else Observation(c, None) for c in configs]
    assert all(float(config["lr"]) < 0.01 for config in portfolio(Problem(LR, 0, {}, own), 4))


def test_the_order_of_results_decides_nothing() -> None:
    others = [[measured(c) for c in random_configs(LR, seed, 8)] for seed in range(3)]
    own = [measured(c) for c in random_configs(LR, 9, 6)]
    one = portfolio(Problem(LR, 0, {}, own, others), 4)
    random.Random(0).shuffle(own)
    assert portfolio(Problem(LR, 0, {}, own, others), 4) == one

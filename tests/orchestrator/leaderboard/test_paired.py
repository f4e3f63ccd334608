"""Paired comparisons: errors as large as they are, and honest where nothing differs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from orchestrator.leaderboard import paired
from orchestrator.leaderboard.paired import Right


def finals(
    generator: np.random.Generator, hard: np.ndarray, seeds: int, gain: float, spread: float
) -> Right:
    """Finals of a method: an image's difficulty, the method's gain, and what a seed adds."""
    skill = gain + spread * generator.standard_normal((seeds, 1))
    noise = generator.standard_normal((seeds, len(hard)))
    found: Right = skill + 0.7 * noise > hard
    return found


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_error_is_how_far_new_images_and_seeds_move_the_difference(
    seeds: int, spread: float
) -> None:
    generator = np.random.default_rng(seeds)
    found = []
    for _ in range(600):
        hard = generator.standard_normal(200)
        found.append(
            paired.of_finals(*(finals(generator, hard, seeds, gain, spread) for gain in (0.2, 0.0)))
        )
    moved = np.std([estimate.difference for estimate in found])
    said = np.sqrt(np.mean([estimate.error**2 for estimate in found]))
    # Where seeds do nothing, the variance that is estimated of them can only err upwards.
    assert 0.9 * moved < said < 1.25 * moved


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.0), (3, 0.4), (2, 0.4)])
def test_methods_that_are_equal_are_seldom_told_apart(seeds: int, spread: float) -> None:
    generator = np.random.default_rng(seeds)
    wrong = 0
    for _ in range(400):
        hard = generator.standard_normal(300)
        pair = {name: finals(generator, hard, seeds, 0.0, spread) for name in ("a", "b")}
        (found,) = paired.compare("vit", {"task": pair}, {})
        wrong += found.told_apart
    assert wrong <= binom.ppf(0.999, 400, 0.05)


def test_two_seeds_on_500_images_tell_24_from_47_percent() -> None:
    generator = np.random.default_rng(0)
    hard = generator.standard_normal(500)
    pair = {
        "a": finals(generator, hard, 2, -0.85, 0.05),
        "b": finals(generator, hard, 2, -0.1, 0.1),
    }
    (found,) = paired.compare("vit", {"task": pair}, {})
    assert 20 < 100 * pair["a"].mean() < 30
    assert found.told_apart
    assert found.probability < 0.01


def test_one_seed_each_is_mcnemars() -> None:
    a = np.array([[True] * 9 + [False] * 2 + [True] * 30])
    b = np.array([[False] * 9 + [True] * 2 + [True] * 30])
    (pair,) = paired.compare("vit", {"task": {"a": a, "b": b}}, {})
    assert pair.p == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert pair.test.startswith("McNemar")
    (same,) = paired.compare("vit", {"task": {"a": a, "b": a}}, {})
    assert (same.difference, same.p, same.ci95) == (0.0, 1.0, (0.0, 0.0))


def test_tasks_like_these_are_told_less_of_than_these_tasks() -> None:
    generator = np.random.default_rng(0)
    by_task = {}
    for task, gain in enumerate((0.5, 0.5, -0.1)):  # better on two tasks, a little worse on one
        hard = generator.standard_normal(2000)
        by_task[str(task)] = {
            "a": finals(generator, hard, 3, gain, 0.0),
            "b": finals(generator, hard, 3, 0.0, 0.0),
        }
    means = {"mean": dict.fromkeys(by_task, 1 / 3)}
    pairs = {p.scope: p for p in paired.compare("vit", by_task, means) if p.task is None}
    assert pairs["mean"].difference == pytest.approx(pairs[paired.SUCH].difference)
    assert pairs["mean"].told_apart
    assert not pairs[paired.SUCH].told_apart


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(values: list[float]) -> None:
    corrected = paired.holm(values)
    assert all(value <= p <= 1 for value, p in zip(values, corrected, strict=True))
    for (p, a), (q, b) in itertools.combinations(zip(values, corrected, strict=True), 2):
        assert (p - q) * (a - b) >= 0
    assert min(corrected) == pytest.approx(min(1.0, len(values) * min(values)))

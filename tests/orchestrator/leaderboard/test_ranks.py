"""Mean ranks and what can be told apart, against numbers from the literature."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.leaderboard.board import Board, Protocol
from orchestrator.leaderboard.ranks import critical_difference, ranks
from tests.orchestrator.leaderboard.test_page import board, row


def made(accuracies: Mapping[str, Sequence[float | None]]) -> Board:
    rows = [
        row("pico", method, f"task{i}", "demo", accuracy)
        for method, found in accuracies.items()
        for i, accuracy in enumerate(found)
    ]
    return Board("ranked", Protocol("train+val", False, (0, 1)), tuple(rows), ())


def test_the_critical_difference_is_that_of_the_paper() -> None:
    """Demsar 2006, section 3.2.2: four classifiers on 14 data sets, q 2.569, CD 1.25."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ties_share_a_rank_and_unfinished_tasks_do_not_count() -> None:
    (ranking,) = ranks(
        made({"a": [90, 80, 70, None], "b": [90, 70, 60, 99], "c": [10, 20, 30, 98]})
    )
    assert ranking.tasks == 3
    by_method = {entry.method: entry.rank for entry in ranking.methods}
    assert by_method == pytest.approx({"a": 3.5 / 3, "b": 5.5 / 3, "c": 3.0})
    assert [entry.method for entry in ranking.methods] == ["a", "b", "c"]


def test_methods_far_apart_are_told_apart_and_neighbours_are_not() -> None:
    found = {"a": [9.0] * 12, "b": [8.0] * 12, "c": [7.0] * 12, "d": [6.0] * 12}
    (ranking,) = ranks(made(found))
    assert ranking.critical == pytest.approx(critical_difference(4, 12))
    assert ranking.groups == ((0, 1), (1, 2), (2, 3))
    assert ranking.p is not None
    assert ranking.p < 1e-6


def test_too_few_methods_or_tasks_give_no_test() -> None:
    assert ranks(made({"a": [1.0, 2.0]})) == []
    assert ranks(made({})) == []
    for few in ({"a": [1.0] * 9, "b": [2.0] * 9}, {"a": [1.0], "b": [2.0], "c": [3.0]}):
        (ranking,) = ranks(made(few))
        assert ranking.critical is None
        assert ranking.groups == ()


def test_each_backbone_has_its_own() -> None:
    found = ranks(board({"demo/digits": "demo"}, backbones=["a", "b"]))
    assert [entry.backbone for entry in found] == ["a", "b"]


@given(st.integers(2, 6).flatmap(lambda k: st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0]),
       min_size=k, max_size=k), min_size=1, max_size=8)))  # fmt: skip
def test_mean_ranks_sum_to_those_of_one_task_and_groups_are_maximal(
    table: list[list[float]],
) -> None:
    (ranking,) = ranks(made({str(i): list(column) for i, column in enumerate(zip(*table))}))  # noqa: B905
    k = len(table[0])
    found = [entry.rank for entry in ranking.methods]
    assert found == sorted(found)
    assert sum(found) == pytest.approx(k * (k + 1) / 2)
    for first, last in ranking.groups:
        assert ranking.critical is not None
        assert found[last] - found[first] <= ranking.critical
        assert last == k - 1 or found[last + 1] - found[first] > ranking.critical

"""Derived labels, at the published thresholds and on both sides of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_train.tasks.labels import (
    clevr_count,
    clevr_distance,
    dsprites_location,
    dsprites_orientation,
    kitti_distance,
)


def scene(*depths: float) -> list[dict[str, Any]]:
    return [{"pixel_coords": [1.0, 2.0, depth]} for depth in depths]


def by_property(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The other way in which data sets store objects."""
    return {name: [record[name] for record in records] for name in records[0]}


@given(st.integers(3, 10))
def test_clevr_counts_objects_from_three(count: int) -> None:
    assert clevr_count(scene(*[9.0] * count)) == count - 3
    assert clevr_count(by_property(scene(*[9.0] * count))) == count - 3


@pytest.mark.parametrize(
    ("depth", "label"),
    [(5.0, 0), (8.0, 0), (8.01, 1), (8.5, 1), (8.51, 2), (9.0, 2), (9.5, 3), (10.0, 4), (10.1, 5)],
)
def test_clevr_distance_is_the_bin_of_the_nearest_object(depth: float, label: int) -> None:
    assert clevr_distance(scene(depth, depth + 3)) == label
    assert clevr_distance(by_property(scene(depth + 1, depth))) == label


@pytest.mark.parametrize(
    ("vehicles", "label"),
    [([4.0], 0), ([8.0], 0), ([8.1, 50.0], 1), ([20.0], 1), ([20.1], 2), ([900.0], 2), ([], 3)],
)
def test_kitti_looks_at_cars_vans_and_trucks_only(vehicles: list[float], label: int) -> None:
    objects = [{"location": [0.0, 0.0, z], "type": i % 3} for i, z in enumerate(vehicles)]
    pedestrian = {"location": [0.0, 0.0, 1.0], "type": 3}
    assert kitti_distance([*objects, pedestrian]) == label
    assert kitti_distance(by_property([pedestrian, *objects])) == label


def test_dsprites_bins_hold_two_positions_and_three_or_two_orientations() -> None:
    assert [dsprites_location(x) for x in range(32)] == [x // 2 for x in range(32)]
    sizes = [[dsprites_orientation(o) for o in range(40)].count(label) for label in range(16)]
    assert sizes == [3, 2] * 8

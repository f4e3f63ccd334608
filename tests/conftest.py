"""What holds for all tests."""

import pytest
import torch

# One thread: tests share the cores with Ray's workers, which spinning threads would starve.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, so that of several processes none waits for them alone."""
    marks = ("chaos", "slow")
    weights: dict[object, int] = {}
    for item in items:
        own = min((i for i, mark in enumerate(marks) if item.get_closest_marker(mark)), default=2)
        weights[item.path] = min(own, weights.get(item.path, own))
    items.sort(key=lambda item: weights[item.path])

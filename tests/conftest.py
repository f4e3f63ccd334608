"""What holds for all tests: they share two cores, and none may depend on how fast those are."""

import os

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # Ray's workers need the cores too; threads that spin would starve them

settings.register_profile("arc-sweep", deadline=None)
settings.load_profile("arc-sweep")

# What Ray gives its own parts to start: on a busy machine its defaults are too short.
for limit in ("worker_register_timeout_seconds", "raylet_start_wait_time_s"):
    os.environ.setdefault(f"RAY_{limit}", "600")
os.environ.setdefault("RAY_agent_register_timeout_ms", "600000")


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For --dist loadgroup: the tests of the shared cluster stay together, and those of a file."""
    for item in items:
        shared = "address" in getattr(item, "fixturenames", ())
        group = "shared cluster" if shared else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))

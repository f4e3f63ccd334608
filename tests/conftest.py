"""What holds for all tests: they share two cores, and none may depend on how fast those are."""

import gc
import os
import signal

import torch
from hypothesis import settings

gc.disable()  # until all that tests need is imported: it would walk through that again and again

torch.set_num_threads(1)  # Ray's workers need the cores too; threads that spin would starve them

# What was started in the background ignores Ctrl-C, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("arc-sweep", deadline=None)
settings.load_profile("arc-sweep")

# What Ray gives its own parts to start: on a busy machine its defaults are too short.
for limit in ("worker_register_timeout_seconds", "raylet_start_wait_time_s"):
    os.environ.setdefault(f"RAY_{limit}", "600")
os.environ.setdefault("RAY_agent_register_timeout_ms", "600000")


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through all that is imported."""
    gc.freeze()
    gc.enable()

"""Imports that take seconds (torch, timm, Ray Tune), a sixth faster."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def slow_imports() -> Iterator[None]:
    """Keep the garbage collector from walking, again and again, through all that is imported."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

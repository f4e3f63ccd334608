"""SIGTERM, which schedulers and `kill` send, ends a command the way Ctrl-C does."""

import signal
from typing import Any


def sigterm_interrupts() -> None:
    """Have SIGTERM raise KeyboardInterrupt in the main thread: everything stays resumable."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt

"""Ctrl-C, and SIGTERM, which schedulers and `kill` send: both end a run so that it can go on.

Both raise KeyboardInterrupt in the main thread, and are remembered too: one that lands in code that
swallows exceptions (a finaliser, a callback from C) would be lost.
"""

import signal
import threading
from typing import Any

_asked = threading.Event()


def catch_interrupts() -> None:
    """Have both signals raise KeyboardInterrupt. (Ray sets handlers of its own: call it again.)"""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def check_interrupts() -> None:
    """Raise KeyboardInterrupt if one was lost on its way."""
    if _asked.is_set():
        _asked.clear()
        raise KeyboardInterrupt


def _interrupt(*_: Any) -> None:
    _asked.set()
    raise KeyboardInterrupt

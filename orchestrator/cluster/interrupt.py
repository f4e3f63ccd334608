"""Ctrl-C and SIGTERM, which schedulers and `kill` send: both end a run so that it can resume.

Both raise KeyboardInterrupt in the main thread. The signal is also remembered, because an exception
raised inside code that swallows exceptions (a finaliser, a callback from C) is lost.
"""

import signal
import threading
from typing import Any

_received = threading.Event()


def catch_interrupts() -> None:
    """Install the handlers. Ray replaces them when it starts: call this again after that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def check_interrupts() -> None:
    """Raise KeyboardInterrupt if a signal was received and its exception lost."""
    if _received.is_set():
        _received.clear()
        raise KeyboardInterrupt


def _interrupt(*_: Any) -> None:
    _received.set()
    raise KeyboardInterrupt

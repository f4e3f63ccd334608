"""Ctrl-C and SIGTERM, which schedulers and `kill` send: both end a run so that it can resume.

Both raise KeyboardInterrupt in the main thread. The signal is also remembered, because an exception
raised inside code that swallows exceptions (a finaliser, a callback from C) is lost. While Python
imports, much code does so, and there is nothing yet to end in order: there the process just ends.
"""

import os
import signal
import sys
import threading
from typing import Any

_received = threading.Event()


def leave_on_interrupt() -> None:
    """Install handlers that end the process, for as long as it imports."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)


def catch_interrupts() -> None:
    """Install the handlers. Ray replaces them when it starts: call this again after that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def check_interrupts() -> None:
    """Raise KeyboardInterrupt if a signal was received and its exception lost."""
    if _received.is_set():
        _received.clear()
        raise KeyboardInterrupt


def _leave(*_: Any) -> None:
    print("interrupted: nothing was begun", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)


def _interrupt(*_: Any) -> None:
    _received.set()
    raise KeyboardInterrupt

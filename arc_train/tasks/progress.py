"""Tells how far decoding is: by a bar on a terminal, elsewhere by a line now and then."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Called with the number of images decoded so far, and in all.
Decoded = Callable[[int, int], None]

EVERY = 30.0  # seconds between two lines


class Lines:
    """Says in a line how far it is, the first time after some seconds."""

    def __init__(self, task: str, say: Callable[[str], None], every: float = EVERY) -> None:
        self._task, self._say, self._every = task, say, every
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """So many images are decoded, of so many."""
        now = time.monotonic()
        if now - self._said < self._every:
            return
        self._said = now
        left = timedelta(seconds=round((now - self._began) * (total - done) / done))
        self._say(f"decoding {self._task}: {done:,} of {total:,} images, {left} left")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Images a second of late."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")


@contextlib.contextmanager
def telling(task: str, console: Console, say: Callable[[str], None]) -> Iterator[Decoded]:
    """What tells how far a task's decoding is; quiet where there is nothing to decode."""
    if not console.is_terminal:
        yield Lines(task, say)
        return
    columns = (TextColumn("decoding {task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(*columns, _Speed(), TimeRemainingColumn(), console=console, transient=True)
    bar = bars.add_task(task)

    def decoded(done: int, total: int) -> None:
        bars.start()
        bars.update(bar, completed=done, total=total)

    try:
        yield decoded
    finally:
        bars.stop()

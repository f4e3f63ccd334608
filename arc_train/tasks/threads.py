"""Work on many things side by side, with their results in order and little in memory at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# Results that may wait for a slow one before them, for each thread.
AHEAD = 4

T = TypeVar("T")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(jobs: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """The results of jobs, in their order; an error is raised in its job's place.

    Threads serve where the jobs let go of Python's lock, as Pillow does while it decodes and
    resizes.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

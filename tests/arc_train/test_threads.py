"""Jobs side by side: their results in order, few of them in memory, errors in their place."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_train.tasks.threads import AHEAD, in_order


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_results_keep_the_order_of_their_jobs(delays: list[int], threads: int) -> None:
    def job(number: int, delay: int) -> Callable[[], int]:
        return lambda: (time.sleep(delay / 1000), number)[1]

    jobs = [job(number, delay) for number, delay in enumerate(delays)]
    assert list(in_order(jobs, threads)) == list(range(len(delays)))


def test_only_a_few_jobs_are_taken_ahead_of_their_reader() -> None:
    taken = 0

    def jobs() -> Iterator[Callable[[], int]]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield lambda number=number: number

    for number in in_order(jobs(), 3):
        assert taken <= number + 1 + AHEAD * 3 + 1


def test_jobs_run_side_by_side() -> None:
    both = threading.Barrier(2)  # nobody passes alone
    assert len(list(in_order([lambda: both.wait(timeout=600)] * 2, 2))) == 2


def test_an_error_is_raised_in_its_place_and_ends_the_work() -> None:
    done = []
    jobs = [lambda: done.append(1), lambda: 1 / 0, *[lambda: done.append(1)] * 1000]
    with pytest.raises(ZeroDivisionError):
        list(in_order(jobs, 2))
    assert len(done) < 1000

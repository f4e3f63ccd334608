"""A driver outlives its connection to Ray, whatever its other threads do meanwhile."""

import gc
import subprocess
import sys
import threading
import time

import pytest
import ray

from orchestrator.cluster.connection import connection
from orchestrator.cluster.scratch import scratch

pytestmark = pytest.mark.slow


class Cycle:
    """Garbage that only a collection frees, and with it a reference to one of Ray's objects."""

    def __init__(self, reference: object) -> None:
        self.itself, self.reference = self, reference


def test_references_freed_by_another_thread_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "outlived\n"), done.stderr


def _drop(references: list[object]) -> None:
    """One each millisecond, each collected at once where nothing forbids it."""
    while references:
        Cycle(references.pop())
        for _ in range(20):
            Cycle(None)
        time.sleep(0.001)


def main() -> None:
    gc.set_threshold(1)
    with scratch() as place, connection(place):
        references = [ray.put(n) for n in range(2000)]
        thread = threading.Thread(target=_drop, args=[references])
        thread.start()
    thread.join()
    print("outlived")


if __name__ == "__main__":
    main()

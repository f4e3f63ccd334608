"""A driver whose cluster dies says so, whichever of Ray's processes it was: it never waits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cluster.connection import ClusterLost, connection
from orchestrator.cluster.scratch import scratch


@pytest.mark.slow
@pytest.mark.parametrize("program", ["raylet", "gcs_server"])
def test_a_process_of_rays_that_dies_ends_the_run_with_a_word(program: str) -> None:
    command = [sys.executable, "-m", __name__, program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "a Ray cluster on this machine has ended: nothing answers at" in done.stdout, done.stderr
    assert done.returncode == 0


def main(program: str) -> None:
    """Start Ray, kill a process of its, and wait for what comes of that."""
    try:
        with scratch() as place, connection(place):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    command = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if Path(command.split(b"\0")[0].decode()).name == program and (
                    str(place).encode() in command
                ):
                    os.kill(int(process.name), signal.SIGKILL)
            time.sleep(600)
    except ClusterLost as lost:
        print(lost)


if __name__ == "__main__":
    main(sys.argv[1])

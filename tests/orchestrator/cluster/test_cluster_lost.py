"""A cluster that dies: the driver says so, whichever of Ray's processes it was, and never waits.

One that dies while it starts is started anew.
"""

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


SLOW = """
import pathlib, sys, time
if any(word.endswith("dashboard/agent.py") for word in sys.orig_argv):
    first = pathlib.Path(__file__).with_name("first")
    if not first.exists():
        first.touch()
        time.sleep(600)
"""


@pytest.mark.slow
def test_ray_is_started_anew_where_its_agent_comes_too_late(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    done = subprocess.run(
        [sys.executable, "-m", __name__, "none"],
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
        | {"RAY_agent_register_timeout_ms": "15000", "RAY_raylet_start_wait_time_s": "20"},
    )
    assert (done.returncode, "started" in done.stderr) == (0, True), done.stderr
    assert (tmp_path / "first").exists()


def main(program: str) -> None:
    """Start Ray, kill a process of its, and wait for what comes of that."""
    try:
        with scratch() as place, connection(place):
            if program == "none":
                print("started")
                return
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

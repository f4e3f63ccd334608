"""A cluster that grows while packs wait and shrinks when they are done.

Ray's own autoscaler, with the provider that it has for this: what it launches are nodes on this
machine, with a GPU in name only.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray._private.services as services
import yaml

from tests.gate import Gate, wait_until
from tests.sweeps import SPEC, processes

pytestmark = pytest.mark.slow

TOKEN = "ARC_SWEEP_TEST"
HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "held")


@pytest.fixture
def home(tmp_path: Path, gate: Gate) -> Iterator[dict[str, str]]:
    """The environment of somebody on the head of a cluster that has no other node yet."""
    address = f"{services.get_node_ip_address()}:{_free_port()}"
    config = tmp_path / "ray_bootstrap_config.yaml"  # where `ray up` leaves it
    config.write_text(yaml.safe_dump(_config(address)))
    token = str(uuid.uuid4())
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as scratch:
        environment = {
            **os.environ,
            **gate.environment(),
            "HOME": str(tmp_path),
            "RAY_ADDRESS": address,
            "GPU_IN_NAME": "1",
            "RAY_TMPDIR": scratch,
            TOKEN: token,
        }
        as_launched = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        }
        options = ["--head", f"--port={address.split(':')[1]}", "--num-cpus=0"]
        # Ray's own choices are the same for each cluster of a machine.
        options += ["--dashboard-agent-listen-port=0", f"--ray-client-server-port={_free_port()}"]
        options += [f"--autoscaling-config={config}", f"--temp-dir={scratch}"]
        ray_ = str(Path(sys.executable).with_name("ray"))
        subprocess.run(
            [ray_, "start", *options],
            env={k: v for k, v in environment.items() if k != "RAY_ADDRESS"} | as_launched,
            check=True,
            capture_output=True,
        )
        try:
            yield environment
        finally:
            for process in processes(token):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)


def test_packs_that_wait_bring_nodes_and_idle_nodes_go(
    home: dict[str, str], tmp_path: Path, gate: Gate
) -> None:
    spec = {**SPEC, "storage": str(tmp_path)}
    del spec["resources"]  # a GPU for each pack, since a type of node has one
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "orchestrator.cli", "run", str(tmp_path / "sweep.yaml")]
    assert _nodes(home) == 1
    sweep = subprocess.Popen(
        command, env=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_until(lambda: len(gate.held()) == 2, sweep)  # a GPU each
    assert _nodes(home) == 3, "the head and both GPU nodes"
    gate.open()
    out, _ = sweep.communicate()
    assert sweep.returncode == 0, out
    board = json.loads((tmp_path / "small/leaderboard.json").read_text())
    assert [row["test_accuracy"]["n"] for row in board["rows"]] == [2] * 4
    wait_until(lambda: _nodes(home) == 1)


def _config(address: str) -> dict[str, Any]:
    """What `ray up` would leave: no packs on the head, up to two GPU nodes."""
    gpu = {"resources": {"CPU": 1, "GPU": 1}, "min_workers": 0, "max_workers": 2}
    stages = ("initialization", "setup", "head_setup", "worker_setup")
    return {
        "cluster_name": "grows",
        "max_workers": 2,
        "upscaling_speed": 8,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": HEAD,
            "launch_multiple": True,
        },
        "head_node_type": "ray.head.default",  # the provider's name for it
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}},
            "gpu": {**gpu, "node_config": {}},
        },
        "file_mounts": {},
        "cluster_synced_files": [],
        **{f"{stage}_commands": [] for stage in (*stages, "head_start_ray", "worker_start_ray")},
    }


def _nodes(home: Mapping[str, str]) -> int:
    count = 0
    for process in processes(home[TOKEN]):
        with contextlib.suppress(OSError):
            count += b"/raylet/raylet" in (process / "cmdline").read_bytes()
    return count


def _free_port() -> int:
    """One from below those that the kernel hands out: nobody gets it by chance before we do."""
    first, last = 20_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(first, last), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise RuntimeError(f"no free port from {first} to {last}")

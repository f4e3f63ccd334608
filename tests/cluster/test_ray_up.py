"""cluster-local.yaml for real: `ray up` on machines, a sweep over them all, one of them lost.

The machines are namespaces of this one (hosts.py). They have no network but their own, so that the
file's `pip install` finds its packages installed already; all else is done as the file says.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.hosts import LAPTOP, Hosts, hosts, unavailable
from tests.gate import HOOK, Gate, wait_until

pytest.importorskip("aiohttp_cors", reason="Ray's launcher and jobs need ray[default]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
    pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="not in a virtual environment"),
]

TOP = Path(__file__).parents[2]
HEAD, *WORKERS = 1, 2, 3
HELD = "held"
TOKEN = "a-token-that-nobody-should-read"
ASK_THE_DASHBOARD = (
    "exec 3<>/dev/tcp/127.0.0.1/8265; printf 'GET /api/jobs/ HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
)
SPEC: dict[str, Any] = {
    "name": "small",
    "tasks": ["demo/digits"],
    "methods": ["linear", "bias", "arc"],
    "backbones": [
        {
            "name": "tiny",
            "model": "vit_tiny_patch16_224",
            "weights": "random",
            "args": {"img_size": 32, "embed_dim": 48, "depth": 3, "num_heads": 2},
        }
    ],
    "search": {"algorithm": "random", "trials": 2, "halving": None},
    "training": {"epochs": 3, "warmup_epochs": 1},
    "finals": {"seeds": [0, 1]},
    "resources": {"cpu": 1.5},  # of two, so that each machine has one pack, on one thread
    "storage": "${ARC_SWEEP_STORAGE}",
    "wandb": {"mode": "offline"},
}


class Cluster:
    """The machines, and what a person types on the laptop."""

    def __init__(self, machines: Hosts) -> None:
        self.machines = machines
        self.folder = machines.shared / "results" / SPEC["name"]
        self.gate = Gate(machines.shared / HELD, seen_as=Path("/shared") / HELD)
        (machines.shared / "sweep.yaml").write_text(yaml.safe_dump(SPEC))
        text = (TOP / "cluster-local.yaml").read_text()
        for theirs, ours in {
            "192.168.1.10": machines.address(HEAD),
            "192.168.1.11": machines.address(WORKERS[0]),
            "192.168.1.12": machines.address(WORKERS[1]),
            "ssh_user: ubuntu": "ssh_user: root",
            "~/.ssh/id_ed25519": str(machines.key),
        }.items():
            assert theirs in text
            text = text.replace(theirs, ours)
        (machines.shared / "cluster.yaml").write_text(text)

    def start(self, command: str) -> subprocess.Popen[str]:
        """A command on the laptop, in this project's folder."""
        line = f"cd {TOP}; export PATH={sys.prefix}/bin:$PATH WANDB_API_KEY={TOKEN}; {command}"
        return subprocess.Popen(
            self.machines.on(LAPTOP, line),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """What a command printed, once it has succeeded."""
        process = self.start(command)
        out, _ = process.communicate()
        assert process.returncode == 0, out
        return out

    def holds(self, machine: int, condition: str) -> bool:
        """Whether a shell command on a machine succeeds."""
        command = self.machines.on(machine, condition)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def results(self) -> dict[str, dict[str, Any]]:
        files = self.folder.glob("trials/*.json")
        return {path.stem: json.loads(path.read_text()) for path in files}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    base = Path(sys.base_prefix)
    at_home = (
        "cd ~root; rm -rf .bash_login .ray; echo > .bashrc; "
        f"echo PATH={base}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin > .bash_profile; "
        f"mkdir venv; mount --bind {sys.prefix} venv"
    )
    environment = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say yes
        "PYTHONPATH": str(HOOK),
        "HELD_PACKS": f"/shared/{HELD}",
    }
    needed = (TOP, base, Path(sys.prefix))
    with hosts(3, tmp_path_factory.mktemp("hosts"), needed, environment) as machines:
        for machine in (HEAD, *WORKERS):
            subprocess.run(machines.on(machine, at_home), check=True)
        subprocess.run(machines.on(LAPTOP, "rm -rf ~root/.ray"), check=True)
        yield Cluster(machines)


def test_a_sweep_submitted_to_a_cluster_survives_the_loss_of_a_machine(cluster: Cluster) -> None:
    machines, submit = cluster.machines, "arc-sweep run /shared/sweep.yaml --submit"
    secret = cluster.run("ray get-auth-token --generate 2>/dev/null").strip()
    cluster.run("ray up -y /shared/cluster.yaml")
    wait_until(lambda: all(cluster.holds(m, "pgrep -f ^ray::DashboardAgent") for m in WORKERS))
    forward = cluster.start("ray dashboard /shared/cluster.yaml")
    wait_until(lambda: cluster.holds(LAPTOP, "exec </dev/tcp/127.0.0.1/8265"), forward)
    without = "env -u RAY_AUTH_TOKEN HOME=/nowhere"  # a client that hasn't got the token
    assert "401" in cluster.run(ASK_THE_DASHBOARD)
    refused = cluster.start(f"{without} ray status --address {machines.address(HEAD)}:6379")
    out, _ = refused.communicate()
    assert refused.returncode != 0
    assert "uthenticat" in out, out

    sweep = cluster.start(submit)
    wait_until(lambda: list(cluster.folder.glob("spec.yaml")), sweep)
    heed = "env --default-signal=INT"  # a shell may have started us deaf to Ctrl-C
    follower = cluster.start(f"echo $$ > /shared/follower; exec {heed} {submit}")
    wait_until(lambda: len(cluster.gate.held()) == 3, sweep)
    held = {pack.host: pack.pack for pack in cluster.gate.held()}
    assert held.keys() == {f"host{machine}" for machine in (HEAD, *WORKERS)}
    assert (cluster.folder / f"packs/{held[f'host{WORKERS[-1]}']}.ckpt").exists()
    machines.kill(WORKERS[-1])

    assert follower.stdout is not None
    wait_until(lambda: "starting Ray" in follower.stdout.readline(), sweep, follower)
    subprocess.run(machines.on(LAPTOP, "kill -INT $(cat /shared/follower)"), check=True)
    detached, _ = follower.communicate()
    assert follower.returncode == 130
    assert "the sweep goes on as small-" in detached
    assert "Traceback" not in detached

    cluster.gate.open()
    out, _ = sweep.communicate()
    assert sweep.returncode == 0, out
    assert "failed, tried again" in out
    assert "12 trials trained now; in all 12 done" in out

    results = cluster.results()
    assert Counter(result["kind"] for result in results.values()) == {"search": 6, "final": 6}
    board = json.loads((cluster.folder / "leaderboard.json").read_text())
    assert [row["test_accuracy"]["n"] for row in board["rows"]] == [2] * 3
    there = "arc-sweep status $ARC_SWEEP_STORAGE/small --json"
    assert '"complete": 3' in cluster.run(f"ray exec /shared/cluster.yaml '{there}'")
    for machine in (HEAD, WORKERS[0]):
        assert not cluster.holds(machine, f"grep -rqF -e {TOKEN} -e {secret} /tmp/ray /shared")

    out = cluster.run(submit)
    assert "0 trials trained now; in all 12 done" in out
    assert cluster.results() == results
    cluster.run("ray down -y /shared/cluster.yaml")
    assert not cluster.holds(HEAD, "pgrep -f ^ray::")

"""A sweep file in a folder of its own, the command run on it, and what must be true of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.wandb_files import runs

SPEC: dict[str, Any] = {
    "name": "small",
    "tasks": ["demo/digits", "demo/count"],
    "methods": ["linear", "arc"],
    "backbones": [
        {
            "name": "tiny",
            "model": "vit_tiny_patch16_224",
            "weights": "random",
            "args": {"img_size": 32, "embed_dim": 48, "depth": 3, "num_heads": 2},
        }
    ],
    "search": {
        "algorithm": "random",  # one that learns tries what other studies' speed let it know
        "trials": 3,
        "halving": {"start": 1, "eta": 2},
        "space": {"arc": {"rank": [2, 4]}},
    },
    "training": {"epochs": 5, "warmup_epochs": 1},
    "finals": {"seeds": [0, 1]},
    "wandb": {"mode": "offline"},
}
TRIALS = 4 * (3 + 2)


class Sweep:
    """A sweep file in a folder of its own, and the command run on it."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.folder = path / "results" / SPEC["name"]
        self.file = path / "sweep.yaml"
        self.token = f"ARC_SWEEP_TEST={uuid.uuid4()}"
        self.write(SPEC | {"storage": str(path / "results"), "data": {"cache": str(cache)}})

    def write(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.file.write_text(yaml.safe_dump(dict(spec)))

    def start(self, *more: str) -> subprocess.Popen[str]:
        name, value = self.token.split("=")
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", "run", str(self.file), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, name: value},
        )

    def run(self, *more: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr of the command run to its end."""
        process = self.start(*more)
        out, err = process.communicate(timeout=400)
        return process.returncode, out, err

    def status(self) -> dict[str, Any]:
        """What `arc-sweep status` says."""
        command = [sys.executable, "-m", "orchestrator.cli", "status", str(self.folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        state: dict[str, Any] = json.loads(done.stdout)
        return state

    def results(self) -> dict[str, dict[str, Any]]:
        files = self.folder.glob("trials/*.json")
        return {path.stem: json.loads(path.read_text()) for path in files}

    def written(self) -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in self.folder.glob("trials/*.json")}

    def check_complete(self) -> dict[str, dict[str, Any]]:
        """Each trial exactly once: as a file, as a W&B run, in the leaderboard."""
        results = self.results()
        kinds = Counter(result["kind"] for result in results.values())
        assert kinds == {"search": 12, "final": 8}
        self.check_runs()
        board = json.loads((self.folder / "leaderboard.json").read_text())
        assert [row["test_accuracy"]["n"] for row in board["rows"]] == [2] * 4
        adapters = {path.stem for path in self.folder.glob("adapters/*.safetensors")}
        assert adapters == {t for t, result in results.items() if result["kind"] == "final"}
        assert not list(self.folder.glob("packs/*.ckpt"))
        return results

    def check_runs(self) -> None:
        """Each trial is one W&B run, and the leaderboard another."""
        written = runs(self.folder / "wandb")
        logged = Counter(run.id for run in written if run.job_type != "leaderboard")
        assert logged == dict.fromkeys(self.results(), 1)
        assert len(written) == len(logged) + 1

    def kill_workers(self) -> int:
        """Kill the processes of this sweep that train; returns how many."""
        killed = 0
        for process in processes(self.token):
            with contextlib.suppress(OSError):
                if b"PackWorker" in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed


def processes(token: str) -> Iterator[Path]:
    """Those that have a token in their environment, as places in /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if token.encode() in (process / "environ").read_bytes():
                yield process


def wait_until(process: subprocess.Popen[str], happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it ended before it could be disturbed: {process.communicate()}")
        time.sleep(0.02)


def outcome(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """All that a result says but for how long it took, where, and by which commit."""
    return {
        trial: {k: v for k, v in result.items() if k not in ("seconds", "device", "code")}
        for trial, result in results.items()
    }

"""A sweep file in a folder of its own, the command run on it, and what must be true of it."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cli import main
from tests.gate import Gate
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
    "resources": {"gpu": 0, "cpu": 1.5},  # of two: one worker, which trains on one thread
    "wandb": {"mode": "offline"},
}
TRIALS = 4 * (3 + 2)
CANARY = "c0ffee" * 7  # a secret of W&B's and of the hub's, which nobody should write anywhere


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

    def use_two_workers(self) -> None:
        """Train two packs side by side, where there are two cores."""
        self.write({**self.spec, "resources": {"gpu": 0, "cpu": 1}})

    def command(self, *more: str) -> list[str]:
        """The command for a process of its own."""
        return [sys.executable, "-m", "orchestrator.cli", "run", str(self.file), *more]

    def start(
        self, *more: str, gate: Gate | None = None, at: str = "first epoch"
    ) -> subprocess.Popen[str]:
        """The command as a process with a cluster of its own; its packs wait at the gate."""
        environment = os.environ | {"RAY_ADDRESS": "local"}
        environment |= {"WANDB_API_KEY": CANARY, "HF_TOKEN": CANARY}
        if gate:
            environment |= gate.environment(at)
        return subprocess.Popen(
            self.command(*more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | dict([self.token.split("=")]),
        )

    def run(self, *more: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr of the command, run to its end in this process."""
        return _main("run", str(self.file), *more)

    def status(self) -> dict[str, Any]:
        """What `arc-sweep status` says."""
        _, out, _ = _main("status", str(self.folder), "--json")
        state: dict[str, Any] = json.loads(out)
        return state

    def stop(self) -> None:
        """Kill what is left of it."""
        for process in processes(self.token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)

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


def _main(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def processes(token: str) -> Iterator[Path]:
    """Those that have a token in their environment, as places in /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if token.encode() in (process / "environ").read_bytes():
                yield process


def outcome(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """All that a result says but for what it cost, where, and by which commit."""
    other = ("seconds", "images_per_second", "peak_memory", "energy", "device", "code", "digest")
    return {
        trial: {k: v for k, v in result.items() if k not in other}
        for trial, result in results.items()
    }

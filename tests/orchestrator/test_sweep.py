"""Whole sweeps by the command line: real Ray, real images, real W&B files, processes killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from arc_train import adapt, backbones, load_adapter
from orchestrator.spec import resolve
from tests.wandb_files import runs

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def sweep(tmp_path: Path, cache: Path) -> "Sweep":
    return Sweep(tmp_path, cache)


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
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"PackWorker" in (process / "cmdline").read_bytes() and (
                    self.token.encode() in (process / "environ").read_bytes()
                ):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed


def wait_until(process: subprocess.Popen[str], happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it ended before it could be disturbed: {process.communicate()}")
        time.sleep(0.02)


def outcome(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """All that a result says but for how long it took and where."""
    return {
        trial: {k: v for k, v in result.items() if k not in ("seconds", "device")}
        for trial, result in results.items()
    }


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> tuple[Sweep, tuple[int, str, str]]:
    """A sweep run to its end once, and what the command said."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), cache)
    return sweep, sweep.run()


def test_one_command_goes_from_yaml_to_leaderboard(
    undisturbed: tuple[Sweep, tuple[int, str, str]],
) -> None:
    sweep, (code, out, err) = undisturbed
    assert (code, err) == (0, "")
    results = sweep.check_complete()
    assert f"{TRIALS} trials trained now" in out
    state = sweep.status()
    assert (state["complete"], state["running"], state["packs_begun"]) == (4, False, [])
    statuses = Counter(result["status"] for result in results.values())
    assert statuses == {"done": 4 + 8, "stopped": 8}
    for result in results.values():
        assert (result["test_accuracy"] is not None) == (result["kind"] == "final")
        assert result["code"]["version"]
        assert (result["data"]["variant"], result["data"]["split"]) == ("embedded", "drawn")
    opened = [json.loads(line) for line in (sweep.folder / "test_access.jsonl").open()]
    assert len(opened) == 4, "each study opens its test split once"
    finals = {trial for trial, result in results.items() if result["kind"] == "final"}
    assert {trial for line in opened for trial in line["trials"]} == finals
    for name in ("leaderboard.html", "leaderboard.csv", "spec.yaml"):
        assert (sweep.folder / name).stat().st_size > 100


def test_the_same_command_again_trains_nothing(
    undisturbed: tuple[Sweep, tuple[int, str, str]],
) -> None:
    sweep, _ = undisturbed
    before = sweep.written()
    code, out, _ = sweep.run()
    assert code == 0
    assert "0 trials trained now" in out
    assert sweep.written() == before
    sweep.check_complete()


def test_the_leaderboard_is_made_anew_from_the_results(
    undisturbed: tuple[Sweep, tuple[int, str, str]], tmp_path: Path
) -> None:
    sweep, _ = undisturbed
    copy = tmp_path / "elsewhere"
    shutil.copytree(sweep.folder, copy)
    board = (copy / "leaderboard.json").read_text()
    for path in copy.glob("leaderboard.*"):
        path.unlink()
    shutil.rmtree(copy / "wandb")
    command = [sys.executable, "-m", "orchestrator.cli", "leaderboard", str(copy), "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == json.loads(board)
    assert (copy / "leaderboard.json").read_text() == board
    assert (copy / "leaderboard.html").exists()


FRESH = """
import sys, timm, torch
from safetensors.torch import load_file
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
images = load_file(sys.argv[2])["images"]
mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
with torch.no_grad():
    print(model((images - mean) / std).tolist())
"""


def test_a_winner_is_exported_as_adapter_and_as_plain_timm_model(
    undisturbed: tuple[Sweep, tuple[int, str, str]], tmp_path: Path
) -> None:
    sweep, _ = undisturbed
    command = [sys.executable, "-m", "orchestrator.cli", "export", str(sweep.folder)]
    study = "tiny/arc/demo/digits"
    for more in ([], ["--fold"], ["--seed", "1"]):
        out = str(tmp_path / f"out{''.join(more)}")
        subprocess.run([*command, study, "-o", out, *more], check=True)
    about = json.loads((tmp_path / "out" / "adapter.json").read_text())
    final = sweep.results()[about["id"]]
    assert (final["seed"], final["config"]) == (0, about["config"])
    second = json.loads((tmp_path / "out--seed1" / "adapter.json").read_text())
    assert second["seed"] == 1

    # The folded model, loaded where this project is not, against backbone + adapter, here.
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    save_file({"images": images}, tmp_path / "images.safetensors")
    arguments = [str(tmp_path / "out--fold"), str(tmp_path / "images.safetensors")]
    printed = subprocess.run(
        [sys.executable, "-I", "-c", FRESH, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    spec = resolve(sweep.spec, "sweep")
    backbone = spec.backbones[0].backbone()
    model = backbones.build(backbone)
    adapted = adapt(model, "arc", 10, rank=about["config"]["rank"]).eval()
    load_adapter(adapted, load_file(tmp_path / "out" / "adapter.safetensors"))
    mean, std = backbones.statistics(backbone, model, spec.data.normalise)
    inputs = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        assert (torch.tensor(json.loads(printed)) - adapted(inputs)).abs().max() < 1e-4

    for wrong, says in (
        (["tiny/ark/demo/digits", "-o", str(tmp_path / "x")], "mean 'tiny/arc/demo/digits'"),
        ([study, "-o", str(tmp_path / "x"), "--seed", "7"], "no final of seed 7"),
        ([study, "-o", "/proc/nothing"], "can't write"),
    ):
        failed = subprocess.run([*command, *wrong], capture_output=True, text=True)
        assert (failed.returncode, "Traceback" in failed.stderr) == (2, False)
        assert says in failed.stderr


def test_more_seeds_and_other_packs_go_on_in_the_same_folder(
    undisturbed: tuple[Sweep, tuple[int, str, str]], tmp_path: Path, cache: Path
) -> None:
    old, _ = undisturbed
    sweep = Sweep(tmp_path, cache)
    shutil.copytree(old.folder, sweep.folder)
    before = sweep.written()
    code, out, _ = sweep.run("--set", "finals.seeds=[0, 1, 2]", "--set", "pack.size=2")
    assert code == 0
    assert "4 trials trained now" in out
    assert {name: sweep.written()[name] for name in before} == before
    board = json.loads((sweep.folder / "leaderboard.json").read_text())
    assert [row["test_accuracy"]["n"] for row in board["rows"]] == [3] * 4
    code, _, err = sweep.run("--set", "training.epochs=4")
    assert code == 2
    assert "another training" in err


@pytest.mark.chaos
def test_a_driver_killed_at_any_time_loses_and_doubles_nothing(
    sweep: Sweep, undisturbed: tuple[Sweep, tuple[int, str, str]]
) -> None:
    for count in (1, 8):
        process = sweep.start()
        wait_until(process, lambda count=count: len(sweep.written()) >= count)
        process.kill()
        process.communicate()
    before = sweep.written()
    code, _, _ = sweep.run()
    assert code == 0
    results = sweep.check_complete()
    assert {name: sweep.written()[name] for name in before} == before
    assert outcome(results) == outcome(undisturbed[0].results())


@pytest.mark.chaos
def test_a_search_that_learns_goes_on_from_its_results(sweep: Sweep) -> None:
    """Rounds, revalidation and a killed driver: each study ends with all its stages, once."""
    sweep.write(
        {
            **sweep.spec,
            "search": {"trials": 6, "rounds": 3, "halving": None},
            "selection": {"revalidate": 2, "seeds": 1},
            "training": {"epochs": 2, "warmup_epochs": 0},
            "finals": {"seeds": [0]},
        }
    )
    process = sweep.start()
    wait_until(process, lambda: len(sweep.written()) >= 5)
    process.kill()
    process.communicate()
    before = sweep.written()
    code, out, err = sweep.run()
    assert (code, err) == (0, "")
    assert {name: sweep.written()[name] for name in before} == before
    results = sweep.results().values()
    kinds = Counter((result["kind"], result["seed"]) for result in results)
    assert kinds == {("search", 0): 24, ("search", 1): 8, ("final", 0): 4}
    sweep.check_runs()
    first = {"lr": 0.01, "weight_decay": 0.0001}
    assert first in [r["config"] for r in results if r["method"] == "linear"]
    code, out, _ = sweep.run()
    assert (code, "0 trials trained now" in out) == (0, True)


@pytest.mark.chaos
def test_ctrl_c_leaves_a_resumable_folder(
    sweep: Sweep, undisturbed: tuple[Sweep, tuple[int, str, str]]
) -> None:
    process = sweep.start()
    wait_until(process, lambda: len(sweep.written()) >= 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "the same command goes on" in err
    assert (sweep.folder / "leaderboard.json").exists()
    assert 2 <= len(sweep.written()) < TRIALS
    assert sweep.run()[0] == 0
    assert outcome(sweep.check_complete()) == outcome(undisturbed[0].results())


@pytest.mark.chaos
def test_a_killed_worker_is_replaced_and_goes_on(
    sweep: Sweep, undisturbed: tuple[Sweep, tuple[int, str, str]]
) -> None:
    process = sweep.start()
    wait_until(process, lambda: list(sweep.folder.glob("packs/*.ckpt")) and sweep.kill_workers())
    process.communicate(timeout=400)
    assert process.returncode == 0
    assert outcome(sweep.check_complete()) == outcome(undisturbed[0].results())


@pytest.mark.chaos
def test_packs_that_can_not_run_fail_and_the_rest_of_the_sweep_goes_on(sweep: Sweep) -> None:
    process = sweep.start("--set", "resources.max_failures=0")

    def failed() -> bool:
        sweep.kill_workers()
        return any(result["status"] == "failed" for result in sweep.results().values())

    wait_until(process, failed)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    statuses = Counter(result["status"] for result in sweep.results().values())
    assert statuses["failed"] > 0
    assert f"{statuses['failed']} failed" in out
    assert sweep.run()[0] == 0
    sweep.check_complete()


def test_two_drivers_never_work_in_one_folder(sweep: Sweep) -> None:
    process = sweep.start("--set", "training.epochs=60")  # long enough for what follows
    wait_until(process, lambda: len(sweep.written()) >= 1)
    code, _, err = sweep.run()
    assert code == 2
    assert "another arc-sweep run is working in" in err
    state = sweep.status()
    assert state["running"]
    assert sum(state["statuses"].values()) > 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 130
    state = sweep.status()
    assert not state["running"]
    assert state["complete"] < 4
    assert sum(line["search"] for line in state["studies"]) <= 12


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": ["ark"]}, "unknown method 'ark' at methods[0]"),
        ({"tasks": ["vtab/cifar100"]}, "set data.root"),
        ({"tasks": ["vtab/cifar100"], "data": {"root": "nowhere"}}, "no folder cifar"),
        (
            {"backbones": [{"name": "cnn", "model": "resnet18", "weights": "random"}]},
            "method 'arc' can't adapt backbone 'cnn'",
        ),
        ({"storage": "/proc/nothing"}, "can't create the sweep folder"),
        (
            {"resources": {"gpu": 1000}},
            "resources.gpu: each pack asks for 1000, but no node of this cluster has more than",
        ),
    ],
)
def test_bad_input_ends_with_code_2_and_one_message(
    sweep: Sweep, change: dict[str, Any], says: str
) -> None:
    sweep.write({**sweep.spec, **change})
    code, out, err = sweep.run()
    assert (code, "Traceback" in err) == (2, False)
    assert says in err
    assert "%" not in out, "nothing was trained"

"""Whole sweeps by the command line: real Ray, real images, real W&B files."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arc_train import adapt, backbones, load_adapter
from orchestrator.cli import main
from orchestrator.spec import resolve
from tests.sweeps import CANARY, TRIALS, Sweep

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_cluster")]


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


def test_no_secret_is_written_anywhere(
    undisturbed: tuple[Sweep, tuple[int, str, str]],
) -> None:
    sweep, (_, out, _) = undisturbed
    assert CANARY not in out
    written = [path for path in sweep.file.parent.rglob("*") if path.is_file()]
    assert len(written) > TRIALS
    assert not [path for path in written if CANARY.encode() in path.read_bytes()]


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
    undisturbed: tuple[Sweep, tuple[int, str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep, _ = undisturbed
    copy = tmp_path / "elsewhere"
    shutil.copytree(sweep.folder, copy)
    board = (copy / "leaderboard.json").read_text()
    for path in copy.glob("leaderboard.*"):
        path.unlink()
    shutil.rmtree(copy / "wandb")
    assert main(["leaderboard", str(copy), "--json"]) == 0
    printed = capsys.readouterr().out
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
    undisturbed: tuple[Sweep, tuple[int, str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep, _ = undisturbed
    command = ["export", str(sweep.folder)]
    study = "tiny/arc/demo/digits"
    for more in ([], ["--fold"], ["--seed", "1"]):
        assert main([*command, study, "-o", str(tmp_path / f"out{''.join(more)}"), *more]) == 0
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
    assert final["weights"] == {
        **asdict(backbones.weights(backbone)),
        "mean": list(mean),
        "std": list(std),
    }
    inputs = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        assert (torch.tensor(json.loads(printed)) - adapted(inputs)).abs().max() < 1e-4

    for wrong, says in (
        (["tiny/ark/demo/digits", "-o", str(tmp_path / "x")], "mean 'tiny/arc/demo/digits'"),
        ([study, "-o", str(tmp_path / "x"), "--seed", "7"], "no final of seed 7"),
        ([study, "-o", "/proc/nothing"], "can't write"),
    ):
        assert main([*command, *wrong]) == 2
        assert says in capsys.readouterr().err


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
    sweep: Sweep, change: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write({**sweep.spec, **change})
    assert main(["run", str(sweep.file)]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "%" not in printed.out, "nothing was trained"


def test_bad_input_is_no_traceback_of_the_process(sweep: Sweep) -> None:
    sweep.write({**sweep.spec, "methods": ["ark"]})
    code, out, err = sweep.run()
    assert (code, out) == (2, "")
    assert err.startswith("arc-sweep: unknown method 'ark'")


def run_apart(sweep: Sweep, *more: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of the command in a process of its own: Ray keeps what it saw."""
    ran = subprocess.run(
        sweep.command(*more), capture_output=True, text=True, env=os.environ | environment
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_a_gpu_that_torch_cannot_use_is_refused_and_without_one_a_line_says_so(
    sweep: Sweep, address: str
) -> None:
    from tests.small_cluster import small_cluster

    automatic = {key: value for key, value in sweep.spec.items() if key != "resources"}
    sweep.write({**automatic, "tasks": ["demo/digits"], "methods": ["linear"]})
    with small_cluster(1, gpus=1) as cluster:
        code, out, err = run_apart(sweep, RAY_ADDRESS=cluster.address)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert err.startswith("arc-sweep: torch can't use the GPU of this machine: ")
        assert "resources.gpu: 0" in err
        assert "%" not in out, "nothing was trained"
        code, out, err = run_apart(sweep, "--set", "resources.gpu=0", RAY_ADDRESS=cluster.address)
        assert code == 0, err
    code, out, err = run_apart(
        sweep, "--set", "finals.seeds=[0, 1, 2]", RAY_ADDRESS=address, CUDA_VISIBLE_DEVICES=""
    )
    assert code == 0, err
    assert "no GPU (CUDA_VISIBLE_DEVICES hides it): packs train on CPUs" in out
    assert "gpu: auto" in (sweep.folder / "spec.yaml").read_text()

"""Reading needs less than running: results are read wherever and beside whatever they lie."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from rich.console import Console

from arc_train import InputError
from orchestrator import sweep
from orchestrator.cli import main
from orchestrator.cluster.running_pack import RunningPack
from orchestrator.plan import Identity
from orchestrator.progress import Progress
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, dump, load
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import result_text
from tests.results import result
from tests.rights import reachable_folder, restricted

KEPT = Path(__file__).parents[1] / "assets" / "sweep-version-1"
TRIAL = "148a5afa857ee804"
# Looks at a folder as the command does, and says which heavy packages that took.
LOOK = """
import sys
from orchestrator.cli import main
codes = [main([command, sys.argv[1]]) for command in ("leaderboard", "status")]
heavy = [name for name in ("torch", "ray", "wandb", "timm") if name in sys.modules]
print(codes, heavy)
"""


@pytest.mark.parametrize("command", ["leaderboard", "status"])
def test_results_that_this_user_may_not_read_are_not_taken_for_none(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with reachable_folder() as path:
        folder = Path(shutil.copytree(KEPT, path / KEPT.name))
        with restricted(folder / "trials", 0o000):
            assert main([command, str(folder)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"can't read {folder}/trials: Permission denied" in said
        with restricted(folder, 0o000):
            assert main([command, str(folder)]) == 2
        assert f"arc-sweep: {folder}/spec.yaml: Permission denied" in capsys.readouterr().err


def test_a_watched_sweep_is_shown_again_when_it_went_on(folder: Path, tmp_path: Path) -> None:
    trial = folder / "trials" / f"{TRIAL}.json"
    trial.rename(tmp_path / "later.json")
    command = [sys.executable, "-m", "orchestrator.cli", "status", str(folder), "--watch", "0.1"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert json.loads(watching.stdout.readline())["complete"] == 1
        (tmp_path / "later.json").rename(trial)
        *_, last = watching.stdout
    assert json.loads(last)["complete"] == 2
    assert watching.returncode == 0


@pytest.mark.parametrize("left", ["failed", "diverged", "a driver's death"])
def test_a_watch_ends_with_the_run_whatever_that_leaves(
    left: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for finals that never come."""
    found = list(SweepFolder(folder).results().values())
    of_one = [one for one in found if one.study == found[0].study]
    for one in of_one:
        path = folder / "trials" / f"{one.id}.json"
        path.unlink()
        if one.kind == "search" and left in ("failed", "diverged"):
            other = replace(one, status=left, val_accuracy=None, val_loss=None)
            path.write_text(result_text(other))
    driven = iter([True, True, False] if left == "a driver's death" else [False])
    monkeypatch.setattr("orchestrator.status.is_locked", lambda _: next(driven))
    assert main(["status", str(folder), "--watch", "0.01", "--json"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["running"] is False
    assert next(driven, None) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / KEPT.name))


def looked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_read_only_copy_of_the_results_alone_is_shown_without_torch(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(KEPT / "trials", folder / "trials")
    look = [sys.executable, "-c", LOOK, str(folder)]
    script = 'mount --bind -o ro "$0" "$0" && exec "$@"'
    seen = looked("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(folder), *look)
    if "unshare" in seen.stderr or "mount" in seen.stderr:
        pytest.skip(f"nothing can be mounted here: {seen.stderr}")
    assert seen.stdout.splitlines()[-1] == "[0, 0] []"
    assert "is refitted on images that no spec.yaml names" in " ".join(seen.stdout.split())
    assert "tiny/arc/demo/count  " in seen.stdout
    assert seen.stderr.count("\n") == 1
    assert "Read-only file system; the leaderboard is shown, not written" in seen.stderr
    assert [path.name for path in folder.iterdir()] == ["trials"]


def test_a_whole_folder_is_shown_without_torch_too(folder: Path) -> None:
    seen = looked(sys.executable, "-c", LOOK, str(folder))
    assert seen.stdout.splitlines()[-1] == "[0, 0] []", seen.stderr
    assert (folder / "leaderboard.json").read_text() == (KEPT / "leaderboard.json").read_text()


def remove_a_key(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["status"]
    path.write_text(json.dumps(content))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda path: path.write_text(path.read_text()[:100]), "it isn't JSON"),
    "empty": (lambda path: path.write_text(""), "it isn't JSON"),
    "key missing": (remove_a_key, "status: Field required"),
    "not finite": (
        lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": NaN')),
        "seed: Input should be",
    ),
    "foreign": (lambda path: path.write_text('{"a": [1]}'), "id: Field required"),
    "newer": (lambda path: path.write_text('{"version": 99}'), "is of format 99"),
    "of another trial": (
        lambda path: path.write_text(result_text(result("0" * 16))),
        "it holds the record of 0000000000000000",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_no_result_is_named_and_all_else_is_shown(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, told = DAMAGE[kind]
    damage(folder / "trials" / f"{TRIAL}.json")
    assert main(["leaderboard", str(folder), "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert [row["test_accuracy"]["n"] for row in board["rows"]] == [2, 2]
    assert sum(row["trials"] for row in board["rows"]) == 7
    (named,) = board["unreadable"]
    assert f"{TRIAL}.json" in named
    assert told in named
    assert "delete" not in named
    assert "<strong>LEFT ASIDE: 1 file" in (folder / "leaderboard.html").read_text()
    assert main(["leaderboard", str(folder)]) == 0
    assert "LEFT ASIDE: 1 file that can't be read:" in " ".join(capsys.readouterr().out.split())
    assert main(["status", str(folder)]) == 0
    assert f"left aside: {named}" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["name: [", "name: 3", "seed: x\nname: cut"])
def test_a_damaged_spec_leaves_the_results_readable(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "spec.yaml").write_text(text)
    assert main(["leaderboard", str(folder), "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert [row["test_accuracy"]["n"] for row in board["rows"]] == [2, 2]
    assert "spec.yaml" in board["unreadable"][0]
    assert main(["status", str(folder)]) == 0
    assert "4/?" in capsys.readouterr().out


def test_what_is_no_sweeps_folder_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["leaderboard"], ["status"], ["dashboard"]):
        assert main([*command, str(tmp_path)]) == 2
        assert "is not a sweep folder" in capsys.readouterr().err


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished sweep that lay beside its weights, and was moved with them."""
    old, new = tmp_path / "a", tmp_path / "b"
    old.mkdir()
    shape = {"img_size": 32, "embed_dim": 48, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", **shape)
    torch.save(model.state_dict(), old / "vit.pth")
    backbone = {"name": "mine", "model": "vit_tiny_patch16_224", "weights": "vit.pth"}
    raw = {
        "name": "moved",
        "tasks": ["demo/digits"],
        "methods": ["linear"],
        "backbones": [backbone | {"args": shape}],
        "search": {"trials": 1, "halving": None},
        "training": {"epochs": 1, "warmup_epochs": 0},
        "finals": {"seeds": [0]},
        "data": {"cache": str(tmp_path / "cache")},
        "resources": {"gpu": 0},
        "wandb": {"mode": "disabled"},
    }
    (old / "sweep.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(old)
    spec = load("sweep.yaml")
    folder = SweepFolder(spec.place)
    folder.create()
    folder.write(folder.spec, dump(spec).encode())
    identity = sweep.prepare(spec, Progress(Console(quiet=True)))
    train(spec, folder, identity)
    old.rename(new)
    monkeypatch.chdir(new)
    return new


def train(spec: Spec, folder: SweepFolder, identity: Identity) -> None:
    search = SweepSearch(spec, identity, folder)
    while plan := search.next():
        pack = RunningPack(spec, plan, folder, identity.origin(plan.study))
        assert pack.advance(float("inf")).done
        search.ended(plan)


def test_a_node_with_other_weights_than_the_driver_refuses_the_pack(
    tmp_path: Path, moved: Path
) -> None:
    spec = load("sweep.yaml")
    identity = sweep.prepare(spec, Progress(Console(quiet=True)))
    folder = SweepFolder(str(tmp_path / "elsewhere"))
    folder.create()
    plan = SweepSearch(spec, identity, folder).next()
    assert plan is not None
    origin = replace(identity.origin(plan.study), weights="0123456789abcdef")
    with pytest.raises(InputError, match="'mine': this node's weights differ from those of the dr"):
        RunningPack(spec, plan, folder, origin)


def test_a_sweep_moved_with_its_weights_goes_on_and_other_weights_are_refused(
    moved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = "mine/linear/demo/digits"
    assert main(["run", "sweep.yaml"]) == 0
    assert "0 trials trained now" in capsys.readouterr().out
    for words in (
        ["leaderboard", "results/moved"],
        ["status", "results/moved"],
        ["export", "results/moved", study, "-o", "out"],
        ["export", "results/moved", study, "-o", "folded", "--fold"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    weights = torch.load(moved / "vit.pth", weights_only=True)
    (moved / "vit.pth").unlink()
    for words in (
        ["leaderboard", "results/moved"],
        ["status", "results/moved"],
        ["export", "results/moved", study, "-o", "again"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    weights["cls_token"] += 1
    torch.save(weights, moved / "vit.pth")
    capsys.readouterr()
    assert main(["run", "sweep.yaml"]) == 2
    assert "results of backbone 'mine' made with other weights" in capsys.readouterr().err


def test_names_are_shown_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "[/x][red]:smile:"
    for path in [folder / "spec.yaml", *folder.glob("trials/*.json"), *folder.glob("packs/*.json")]:
        path.write_text(
            path.read_text().replace('"tiny"', f'"{odd}"').replace(": tiny", f": '{odd}'")
        )
    for command in ("leaderboard", "status"):
        assert main([command, str(folder)]) == 0
    assert f"{odd}/arc/demo/count" in capsys.readouterr().out

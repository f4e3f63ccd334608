"""`limit` of a task: its search trains on so many images, its finals on all, on record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from arc_train.errors import InputError
from orchestrator import sweep
from orchestrator.cli import main
from orchestrator.cluster.running_pack import RunningPack
from orchestrator.cost.preparation import preparation
from orchestrator.cost.work import cost, task_sizes
from orchestrator.progress import Progress
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, dump, resolve
from orchestrator.store.folder import SweepFolder

BACKBONE = {
    "name": "tiny",
    "model": "vit_tiny_patch16_224",
    "weights": "random",
    "args": {"img_size": 32, "embed_dim": 48, "depth": 1, "num_heads": 2},
}
QUIET = Progress(Console(quiet=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20, 20 and 10 images; 30 of them are left to train on."""
    folder = tmp_path_factory.mktemp("images")
    draws = np.random.default_rng(0)
    for name, count in (("ant", 20), ("bee", 20), ("fly", 10)):
        (folder / name).mkdir()
        for i in range(count):
            pixels = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def spec(folder: Path, storage: Path, limit: int | None) -> Spec:
    task: dict[str, Any] = {"name": "insects", "folder": str(folder)}
    raw = {
        "name": "small",
        "tasks": [task if limit is None else task | {"limit": limit}],
        "methods": ["linear"],
        "backbones": [BACKBONE],
        "search": {"algorithm": "random", "trials": 2, "halving": None},
        "training": {"epochs": 2, "warmup_epochs": 0},
        "finals": {"seeds": [0]},
        "resources": {"gpu": 0},
        "wandb": {"mode": "disabled"},
        "storage": str(storage),
        "data": {"cache": str(folder.parent / "cache")},
    }
    return resolve(raw, "x")


def run(one: Spec) -> dict[str, Any]:
    """The sweep without Ray; the plain results by kind, and how many images each trained on."""
    sweeps = SweepFolder(one.place)
    sweeps.create()
    identity = sweep.prepare(one, QUIET)
    search, found = SweepSearch(one, identity, sweeps), {}
    while plan := search.next():
        pack = RunningPack(one, plan, sweeps, identity.origin(plan.study))
        found[plan.kind] = {"images": pack.run.train_images, "ids": {t.id for t in plan.trials}}
        assert pack.advance(float("inf")).done
        search.ended(plan)
    for path in sweeps.trials.glob("*.json"):
        result = json.loads(path.read_text())
        found[result["kind"]].setdefault("data", result["data"])
    return found


def test_a_search_trains_on_the_limit_and_finals_on_all(folder: Path, tmp_path: Path) -> None:
    whole = run(spec(folder, tmp_path / "whole", None))
    limited = run(spec(folder, tmp_path / "limited", 12))
    assert (whole["search"]["images"], limited["search"]["images"]) == (30, 12)
    assert whole["final"]["images"] == limited["final"]["images"] == 40
    assert limited["search"]["data"]["limit"] == 12
    assert "limit" not in limited["final"]["data"] | whole["search"]["data"]
    assert not whole["search"]["ids"] & limited["search"]["ids"]


def test_a_plan_counts_what_a_search_trains_on(folder: Path, tmp_path: Path) -> None:
    whole, limited = (spec(folder, tmp_path, limit) for limit in (None, 12))
    sizes = task_sizes(whole)
    saved = cost(whole, sizes).images_trained - cost(limited, sizes).images_trained
    assert saved == 2 * 2 * (30 - 12)


def test_a_plan_knows_the_disk_and_the_hours_of_the_cache(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = spec(folder, tmp_path, 12)
    first = preparation(one, task_sizes(one))
    assert (first.images, first.gigabytes) == (50, 50 * 3 * 32**2 / 1e9)
    assert 0 < first.core_hours < 1
    file = tmp_path / "sweep.yaml"
    file.write_text(dump(one))
    assert main(["plan", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache"]["images"] == 50
    assert main(["plan", str(file)]) == 0
    assert "Cache: 50 images to decode" in capsys.readouterr().out


def test_a_limit_is_fixed_in_a_folder_that_has_results(folder: Path, tmp_path: Path) -> None:
    one = spec(folder, tmp_path, None)
    run(one)
    sweeps = SweepFolder(one.place)
    sweeps.write(sweeps.spec, dump(one).encode())
    with pytest.raises(InputError, match=r"another tasks\.insects\.limit"):
        sweep._check_folder(spec(folder, tmp_path, 12), sweeps)


@pytest.mark.parametrize("limit", [0, -5, "many", 1.5])
def test_a_limit_is_a_number_of_images(folder: Path, tmp_path: Path, limit: Any) -> None:
    with pytest.raises(InputError, match=r"tasks\[0\]\.limit"):
        spec(folder, tmp_path, limit)

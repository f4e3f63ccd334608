"""The protocol: nothing that chooses sees a test image, and what only looks changes nothing."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from arc_train.errors import InputError
from arc_train.tasks.cache import Entry
from orchestrator.cluster.running_pack import RunningPack
from orchestrator.contents import Contents
from orchestrator.leaderboard import board_of, source
from orchestrator.progress import Progress
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, resolve
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan
from orchestrator.store.result import Kind, Result, plain_result
from orchestrator.sweep import prepare

SIZES = {"train800": 24, "val200": 16, "test": 20}
TASK = "vtab/kitti"  # 4 classes
SPEC: dict[str, Any] = {
    "name": "small",
    "tasks": [TASK],
    "methods": ["linear", "arc"],
    "backbones": [
        {
            "name": "tiny",
            "model": "vit_tiny_patch16_224",
            "weights": "random",
            "args": {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2},
        }
    ],
    "search": {
        "trials": 4,
        "halving": {"start": 1, "eta": 2},
        "space": {"arc": {"rank": [2, 4]}},
    },
    "training": {"epochs": 4, "warmup_epochs": 1},
    "finals": {"seeds": [0, 1]},
    "wandb": {"mode": "disabled"},
    "resources": {"gpu": 0, "cpu": 1.5},  # of two: one worker
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task's folder of real PNG files whose classes differ in brightness."""
    root = tmp_path_factory.mktemp("images")
    draws = np.random.default_rng(0)
    for split, count in SIZES.items():
        (root / "kitti" / split).mkdir(parents=True)
        lines = []
        for i in range(count):
            pixels = draws.integers(0, 120, (32, 32, 3)) + 40 * (i % 4)
            name = f"{split}/{i}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(root / "kitti" / name)
            lines.append(f"{name} {i % 4}\n")
        (root / "kitti" / f"{split}.txt").write_text("".join(lines))
    return root


class Sweep:
    """A sweep in a folder of its own, run here: all parts are real but Ray."""

    def __init__(self, path: Path, images: Path, **protocol: Any) -> None:
        raw = {**SPEC, "storage": str(path), "protocol": protocol}
        raw["data"] = {"root": str(images), "cache": str(images / "cache")}
        self.spec: Spec = resolve(raw, "x")
        self.folder = SweepFolder(self.spec.place)
        self.folder.create()
        self.identity = prepare(self.spec, Progress(Console(quiet=True)))

    def start(self, plan: PackPlan) -> RunningPack:
        return RunningPack(self.spec, plan, self.folder, self.identity.origin(plan.study))

    def run(self) -> int:
        """Run what is missing; returns how many packs that took."""
        search, packs = SweepSearch(self.spec, self.identity, self.folder), 0
        while plan := search.next():
            assert self.start(plan).advance(float("inf")).done
            search.ended(plan)
            packs += 1
        return packs

    def results(self, kind: Kind) -> list[Result]:
        """In an order that doesn't depend on ids."""
        found = [r for r in self.folder.results().values() if r.kind == kind]
        return sorted(found, key=lambda r: (r.method, json.dumps(r.config, sort_keys=True), r.seed))

    def openings(self) -> list[dict[str, Any]]:
        path = self.folder.path / "test_access.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def honest(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("honest"), images)
    sweep.run()
    return sweep


def determined(result: Result) -> dict[str, Any]:
    """All of a result but what names it and what it cost."""
    content = plain_result(result)
    data = {**content["data"], "fingerprint": None}
    cost = dict.fromkeys(("seconds", "images_per_second", "peak_memory"))
    return {**content, **cost, "id": None, "data": data}


def test_other_test_labels_change_no_search_and_no_choice(
    honest: Sweep, images: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(images, root, ignore=shutil.ignore_patterns("cache"))
    tests = (root / "kitti/test.txt").read_text().splitlines()
    moved = [
        f"{a.split()[0]} {b.split()[1]}" for a, b in zip(tests, tests[1:] + tests, strict=False)
    ]
    (root / "kitti/test.txt").write_text("\n".join(moved))
    other = Sweep(tmp_path, root)
    other.run()
    assert other.identity.tasks != honest.identity.tasks
    searched = [list(map(determined, sweep.results("search"))) for sweep in (honest, other)]
    assert json.dumps(searched[0]) == json.dumps(searched[1])
    finals = [sweep.results("final") for sweep in (honest, other)]
    tested = [[result.test_accuracy for result in results] for results in finals]
    untested = [
        [replace(r, status="failed", test_accuracy=None) for r in found] for found in finals
    ]
    assert list(map(determined, untested[0])) == list(map(determined, untested[1]))
    assert tested[0] != tested[1]


def test_a_search_holds_no_way_to_the_test_images(images: Path, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, images)
    plan = SweepSearch(sweep.spec, sweep.identity, sweep.folder).next()
    assert plan
    assert not list(entries(sweep.start(plan), set()))
    final = PackPlan("p", "final", plan.study, plan.trials)
    assert list(entries(sweep.start(final), set())), "entries() finds what is there"


def test_a_pack_that_finds_its_cache_damaged_makes_it_again_and_says_so(
    honest: Sweep, images: Path, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path, images)
    plan = SweepSearch(sweep.spec, sweep.identity, sweep.folder).next()
    assert plan
    for path in (images / "cache").rglob("search.pixels"):
        content = bytearray(path.read_bytes())
        content[5000] ^= 64
        path.write_bytes(content)
    report = sweep.start(plan).advance(float("inf"))
    (note,) = report.notes
    assert "image 1 of search.pixels isn't as it was written" in note
    for trial in plan.trials:
        mended, clean = (s.folder.result(trial.id) for s in (sweep, honest))
        assert mended
        assert clean
        assert determined(mended) == determined(clean)


def entries(thing: Any, seen: set[int]) -> Any:
    """The cache entries that can be reached through attributes, containers and closures."""
    if id(thing) in seen or isinstance(thing, (str, int, float, type, torch.Tensor)):
        return
    seen.add(id(thing))
    if isinstance(thing, Entry):
        yield thing
    parts = list(getattr(thing, "__dict__", {}).values())
    parts += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    if isinstance(thing, dict):
        parts += thing.values()
    if isinstance(thing, (list, tuple, set)):
        parts += thing
    for part in parts:
        yield from entries(part, seen)


def test_a_tested_search_trial_is_refused(honest: Sweep) -> None:
    result = replace(honest.results("search")[0], id="f" * 16, test_accuracy=50.0)
    with pytest.raises(InputError, match=r"ffff comes with a test accuracy: only finals"):
        honest.folder.write_result(result)
    assert honest.folder.result("f" * 16) is None


def test_each_pack_of_finals_opens_the_test_split_once_on_record(honest: Sweep) -> None:
    opened = honest.openings()
    packs = [pack.id for pack in honest.folder.pack_records() if pack.kind == "final"]
    assert sorted(line["pack"] for line in opened) == sorted(packs)
    assert {line["purpose"] for line in opened} == {"final"}


def test_the_leak_meter_only_looks_and_can_be_turned_on_later(
    honest: Sweep, images: Path, tmp_path: Path
) -> None:
    metered = Sweep(tmp_path, images, leak_meter=True)
    shutil.copytree(honest.folder.path, metered.folder.path, dirs_exist_ok=True)
    assert metered.run() == 2, "finals alone are made again"
    twins: dict[Any, list[Result]] = {}
    for result in metered.results("final"):
        twins.setdefault((result.method, result.seed), []).append(result)
    for pair in twins.values():
        plain, looked = sorted(pair, key=lambda r: r.test_curve is not None)
        assert looked.test_curve
        assert [row.epoch for row in looked.test_curve] == [1, 2, 3, 4]
        assert looked.test_curve[-1].accuracy == looked.test_accuracy == plain.test_accuracy
        assert looked.curve == plain.curve
        first, second = (
            load_file(metered.folder.adapters / f"{result.id}.safetensors")
            for result in (plain, looked)
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert [line["purpose"] for line in metered.openings()] == ["final"] * 2 + ["leak meter"] * 2
    found = Contents(metered.spec.name, metered.spec, metered.folder.results())
    board = board_of(source(metered.folder, found))
    for row in board.rows:
        test, best = row.test_accuracy, row.best_on_test
        assert test
        assert best
        assert (test.n, best.n) == (2, 2)
        assert best.gap == pytest.approx(best.mean - test.mean)
        assert best.gap >= 0
    again = Sweep(tmp_path, images)
    assert again.run() == 0
    unmetered = Contents(again.spec.name, again.spec, again.folder.results())
    board = board_of(source(again.folder, unmetered))
    assert [row.best_on_test for row in board.rows] == [None] * 2


def test_a_metered_final_killed_after_each_epoch_has_the_same_curve(
    honest: Sweep, images: Path, tmp_path: Path
) -> None:
    sweeps = [Sweep(tmp_path / name, images, leak_meter=True) for name in "ab"]
    for sweep in sweeps:
        shutil.copytree(honest.folder.trials, sweep.folder.trials, dirs_exist_ok=True)
    sweeps[0].run()
    plan = SweepSearch(sweeps[1].spec, sweeps[1].identity, sweeps[1].folder).next()
    assert plan
    while not sweeps[1].start(plan).advance(0).done:
        pass  # a new process each time, but for the backbone
    for trial in plan.trials:
        through, cut = (determined(sweep.folder.results()[trial.id]) for sweep in sweeps)
        assert through == cut
        assert len(cut["test_curve"]) == 4


PEEKING = """
import sys
from pathlib import Path
from arc_train.tasks import cache
from arc_train.tasks.catalog import catalog
from orchestrator import cli, progress
from orchestrator.search import studies

def peek(*_):
    cache.prepare(catalog()["vtab/kitti"], Path(sys.argv[1]), 32, Path(sys.argv[2])).load("test")

setattr(*{"searcher": (studies.SweepSearch, "ended"),
          "callback": (progress.Progress, "pack_reported")}[sys.argv[4]], peek)
sys.exit(cli.main(["run", sys.argv[3]]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("who", ["searcher", "callback"])
def test_who_peeks_at_the_test_images_ends_the_run(who: str, images: Path, tmp_path: Path) -> None:
    cache = str(images / "cache")
    raw = {**SPEC, "methods": ["linear"], "storage": str(tmp_path)}
    raw["data"] = {"root": str(images), "cache": cache}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(raw))
    ran = subprocess.run(
        [sys.executable, "-c", PEEKING, str(images), cache, str(tmp_path / "sweep.yaml"), who],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("arc-sweep: the test split is sealed")
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "small/test_access.jsonl").exists()
    assert len(SweepFolder(tmp_path / "small").results()) > 0, "finished work stays"

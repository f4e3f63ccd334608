"""What people and accidents put into files: each is read, or refused with a message.

A reader is given a good file that was damaged: cut, bits flipped, words of other kinds put in. The
default run tries a few of each kind; `make fuzz` tries 10,000 in all, from seeds of their own.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import save

from arc_train import checkpoints
from arc_train.digest import Damaged, stamp
from arc_train.errors import InputError
from arc_train.predictions import Predictions
from arc_train.tasks.catalog import catalog
from arc_train.tasks.entries import read_list
from arc_train.tasks.sources import open_source
from orchestrator import contents, leaderboard
from orchestrator.leaderboard.board import plain_board
from orchestrator.leaderboard.terminal import render
from orchestrator.search import trial_table
from orchestrator.search.curves import Curves
from orchestrator.search.replay import choose, related
from orchestrator.spec import dump, load
from orchestrator.status import status
from orchestrator.store.adapter import adapter_bytes, read_adapter
from orchestrator.store.folder import SweepFolder
from orchestrator.tracking.ledger import Ledger

KEPT = Path(__file__).parent / "assets" / "sweep-version-1"
RECORDED = Path(__file__).parents[1] / "benchmarks/curves/arc_pico-lora-demo-digits.npz"
CASES = int(os.environ.get("FUZZ_CASES", 200))  # over all kinds
SHAPE = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
WORDS = (
    "\x00|\ufeff|\xff|é|𝒳|NaN|Infinity|.inf|-1|0|1e999|9999999999999999999999|0x1F|12:61|null|"
    "true|2026-13-45|~|{}|[]|[[[[[[[[|{|}|]|,|:|;|'|\"|\\|#|- |? |&a|*a|<<: |!!float |\r|\t|\n|"
    "\n\n| |--- |...|!!python/object/apply:os.getcwd |../../outside|/etc/passwd|${HOME}|${NO}|"
    "[/x]|[bold]|<p>"
)
SWEEP = {
    "name": "small",
    "tasks": ["demo/digits", {"name": "own", "folder": "images"}],
    "methods": ["linear", "arc"],
    "backbones": ["arc_pico", {"name": "b", "model": "vit_tiny_patch16_224", "weights": "random"}],
    "search": {
        "algorithm": "random",
        "trials": 3,
        "halving": {"start": 1, "eta": 2},
        "space": {"arc": {"rank": [2, 4], "lr": {"log": [1e-4, 1e-2]}}},
    },
    "training": {"epochs": 5, "warmup_epochs": 1},
    "finals": {"seeds": [0, 1]},
    "data": {"root": "${HOME}/data", "draw_seed": 1},
    "wandb": {"mode": "offline", "project": "p"},
    "storage": "results",
}
LIST = "".join(f"train800/{i}.png {i}\n" for i in range(4))
OWN = "image,label,split\na.png,cat,train\nb.png,dog,test\n"
TABLE = "task,method,rank,lr,wd,other,val_loss,val_accuracy\n" + "".join(
    f"{task},arc,{rank},{lr},0.1,,0.{rank},{50 + rank}\n"
    for task in "ab"
    for rank in (2, 4)
    for lr in (0.01, 0.001)
)
LEARNED = {"head.weight": torch.eye(3), "lora.0.q.A": torch.ones(2, 3)}
STUDY = {"backbone": "b", "method": "lora", "task": "demo/digits"}
WEIGHTS = bytes(range(256)) * 4
ANSWERS = Predictions.of(torch.eye(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), most_bytes=1000)


@dataclass(frozen=True)
class Change:
    """One damage: what is done at a place (a share of the length), over how many bytes."""

    kind: str
    place: float
    length: int
    word: str

    def of(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        before, after = content[:at], content[at:]
        if self.kind == "cut":
            return before
        if self.kind == "flip" and after:
            return before + bytes([after[0] ^ 1 << self.length % 8]) + after[1:]
        if self.kind == "double":
            return before + after[: self.length] + after
        word = self.word.encode("utf-8", "surrogatepass")
        return before + word + after[self.length if self.kind == "replace" else 0 :]


CHANGES = st.lists(
    st.builds(
        Change,
        st.sampled_from(["cut", "flip", "double", "insert", "replace", "replace"]),
        st.floats(0, 1),
        st.integers(0, 12),
        st.sampled_from(WORDS.split("|")) | st.text(max_size=6),
    ),
    min_size=1,
    max_size=4,
)


def sweep_file(path: Path) -> None:
    spec = load(path)
    again = path.with_name("again.yaml")
    again.write_text(dump(spec), encoding="utf-8")
    assert load(again) == spec


def override(path: Path) -> None:
    whole = path.with_name("whole.yaml")
    whole.write_text(yaml.safe_dump(SWEEP))
    load(whole, [path.read_bytes().decode("utf-8", "replace")])


def list_file(path: Path) -> None:
    root = path.parent / "root"
    for split in ("train800", "val200", "test"):
        folder = root / "kitti" / split
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(4):
            (folder / f"{i}.png").touch()
        if split != "train800":
            lines = "".join(f"{split}/{i}.png {i}\n" for i in range(4))
            (folder.parent / f"{split}.txt").write_text(lines)
    shutil.copy(path, root / "kitti" / "train800.txt")
    open_source(catalog()["vtab/kitti"], root)


def own_table(path: Path) -> None:
    read_list(path, {"image": None, "label": None, "split": None})


def replay_table(path: Path) -> None:
    cells = trial_table.read(path)
    for cell in cells:
        choose(cell, related(cells, cell), "portfolio", budget=2, seed=0, rounds=2)


def recorded_curves(path: Path) -> None:
    assert np.array_equal(Curves.read(path).right, Curves.read(RECORDED).right)


def result_file(path: Path) -> None:
    look(path, Path("trials/148a5afa857ee804.json"))


def pack_file(path: Path) -> None:
    look(path, Path("packs/ddb6051fb42c61bc.json"))
    SweepFolder(path.parent / "sweep").pack_records()


def resolved_spec(path: Path) -> None:
    look(path, Path("spec.yaml"))


def look(path: Path, inside: Path) -> None:
    """Leaderboard and status of a folder with one damaged file: both always say something."""
    folder = path.parent / "sweep"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(KEPT, folder)
    shutil.copy(path, folder / inside)
    board = leaderboard.board_of(
        leaderboard.source(SweepFolder(folder), contents.read(SweepFolder(folder)))
    )
    json.dumps(plain_board(board), allow_nan=False)
    Console(file=io.StringIO()).print(render(board))
    status(str(folder))


def journal(path: Path) -> None:
    folder = path.parent / "wandb"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / "logged.jsonl")
    Ledger(folder, "offline").add("x", "done", "run")
    assert Ledger(folder, "offline").has("x", "done")


def checkpoint(path: Path) -> None:
    checkpoints.load(timm.create_model("vit_tiny_patch16_224", **SHAPE), path)


def pack_checkpoint(path: Path) -> None:
    folder = SweepFolder(path.parent)
    folder.packs.mkdir(exist_ok=True)
    shutil.copy(path, folder.packs / "x.ckpt")
    with contextlib.suppress(Damaged):
        assert folder.load_checkpoint("x") == WEIGHTS


def predictions(path: Path) -> None:
    folder = SweepFolder(path.parent)
    folder.predictions.mkdir(exist_ok=True)
    shutil.copy(path, folder.predictions / "x.npz")
    found = folder.predictions_of("x")
    assert found is None or found.to_bytes() == ANSWERS.to_bytes()


def adapter(path: Path) -> None:
    tensors = read_adapter(path)
    assert tensors.keys() == LEARNED.keys()
    assert all(torch.equal(tensors[name], LEARNED[name]) for name in LEARNED)


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save(timm.create_model("vit_tiny_patch16_224", **SHAPE).state_dict(), buffer)
    return buffer.getvalue()


KINDS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], None]]] = {
    "sweep file": ("x.yaml", lambda: yaml.safe_dump(SWEEP).encode(), sweep_file),
    "override": ("x.txt", lambda: b"search.space.arc.rank=[2, 4]", override),
    "list": ("x.txt", LIST.encode, list_file),
    "table of images": ("x.csv", OWN.encode, own_table),
    "table of trials": ("x.csv", TABLE.encode, replay_table),
    "curves": ("x.npz", RECORDED.read_bytes, recorded_curves),
    "result": ("x.json", (KEPT / "trials/148a5afa857ee804.json").read_bytes, result_file),
    "pack": ("x.json", (KEPT / "packs/ddb6051fb42c61bc.json").read_bytes, pack_file),
    "resolved spec": ("x.yaml", (KEPT / "spec.yaml").read_bytes, resolved_spec),
    "journal": ("x.jsonl", (KEPT / "wandb/logged.jsonl").read_bytes, journal),
    "checkpoint": ("x.pth", pickled, checkpoint),
    "safetensors": (
        "x.safetensors",
        lambda: save(timm.create_model("vit_tiny_patch16_224", **SHAPE).state_dict()),
        checkpoint,
    ),
    "pack checkpoint": ("x.ckpt", lambda: stamp(WEIGHTS), pack_checkpoint),
    "predictions": ("x.npz", ANSWERS.to_bytes, predictions),
    "adapter": ("x.safetensors", lambda: adapter_bytes(LEARNED, STUDY), adapter),
}  # fmt: skip


class Writes:
    """Paths that this process opens for writing outside a folder, while the block runs."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._heard)

    @contextlib.contextmanager
    def only_in(self, folder: Path) -> Iterator[None]:
        self.allowed, self.outside = folder, []
        yield
        self.allowed = None
        assert not self.outside

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None or event != "open":
            return
        path, _, flags = arguments
        if isinstance(path, str | bytes) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            place = Path(os.fsdecode(path)).absolute()
            if not place.is_relative_to(self.allowed) and place != Path(os.devnull):
                self.outside.append(str(place))


WRITES = Writes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_with_a_message(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make, read = KINDS[kind]
    good = make()
    path = tmp_path / name
    monkeypatch.chdir(tmp_path)
    path.write_bytes(good)
    with contextlib.suppress(InputError):  # such as folders that aren't here
        read(path)

    @settings(
        max_examples=max(1, CASES // len(KINDS)),
        derandomize="FUZZ_CASES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(CHANGES)
    def tried(changes: list[Change]) -> None:
        content = good
        for change in changes:
            content = change.of(content)
        path.write_bytes(content)
        said = "read"
        try:
            with WRITES.only_in(tmp_path):
                read(path)
        except InputError as error:
            said = str(error)
        assert said.strip()

    tried()

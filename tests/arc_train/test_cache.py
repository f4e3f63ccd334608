"""Whatever happens to the cache's files, models see the source's pixels."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks import cache
from arc_train.tasks.cache import Entry, damage_of, prepare
from arc_train.tasks.catalog import catalog
from arc_train.tasks.progress import Decoded
from arc_train.tasks.views import Split, final_data, search_data

SIZES = {"train": 4, "val": 2, "test": 3}
KEYS = ("vtab/kitti", "fgvc/cars")  # squashed, and in their aspect
SIDE = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real PNG files, listed for both tasks."""
    root = tmp_path_factory.mktemp("data")
    draws = np.random.default_rng(0)
    for key in KEYS:
        folder = root / catalog()[key].folders[0]
        folder.mkdir()
        for split, count in SIZES.items():
            names = [f"{split}{i}.png" for i in range(count)]
            for i, name in enumerate(names):
                pixels = draws.integers(0, 256, (9 + i, 12 - i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name)
            lines = [f"{name} {i}" for i, name in enumerate(names)]
            stem = {"train": "train800", "val": "val200"}.get(split, split)
            (folder / f"{stem}.txt").write_text("\n".join(lines))
            entries = ", ".join(f'"{name}": {i}' for i, name in enumerate(names))
            (folder / f"{split}.json").write_text(f"{{{entries}}}")
    return root


def splits(entry: Entry) -> list[Split]:
    """All that a search and a final can get of an entry."""
    search = search_data(entry)
    final = final_data(entry, "train+val", lambda: None)
    return [search.train, search.val, final.train, final.open_test()]


def shown(entry: Entry) -> list[bytes]:
    """The bytes of every image and label."""
    return [
        np.asarray(image).tobytes() + str(label).encode()
        for split in splits(entry)
        for image, label in zip(split.images, split.labels.tolist(), strict=True)
    ]


def watch() -> tuple[list[tuple[int, int]], Decoded]:
    """What tells how far decoding is, and all that it was told."""
    seen: list[tuple[int, int]] = []
    return seen, lambda done, total: seen.append((done, total))


def damage(path: Path, how: str, place: int, amount: int) -> None:
    """Flip bits, cut, extend or blank a file in place, as a disk or a person might."""
    content = bytearray(path.read_bytes())
    place %= len(content)
    if how == "flip":
        content[place] ^= amount
    elif how == "cut":
        del content[place:]
    elif how == "extend":
        content += bytes([amount]) * (place + 1)
    elif how == "blank":
        other = content[place] ^ 1  # a byte may be blank already
        content[place : place + amount] = bytes(len(content[place : place + amount]))
        content[place] = other
    path.unlink() if how == "delete" else path.write_bytes(content)


@settings(max_examples=40)
@given(
    st.sampled_from(KEYS),
    st.sampled_from(["search.pixels", "search.index", "test.pixels", "test.index", "meta"]),
    st.sampled_from(["flip", "cut", "extend", "blank", "delete"]),
    st.integers(0, 10_000),
    st.integers(1, 255),
    st.booleans(),
)
def test_a_damaged_cache_is_made_again_and_never_shown(
    tmp_path_factory: pytest.TempPathFactory,
    root: Path,
    key: str,
    name: str,
    how: str,
    place: int,
    amount: int,
    opened: bool,
) -> None:
    task, said = catalog()[key], []
    clean = tmp_path_factory.getbasetemp() / "clean"
    expected = shown(prepare(task, root, SIDE, clean))
    place_of = tmp_path_factory.mktemp("cache")
    shutil.copytree(clean, place_of, dirs_exist_ok=True)
    entry = prepare(task, root, SIDE, place_of, say=said.append)
    damage(entry.folder / name, how, place, amount)
    if not opened:  # else the damage came between preparing and loading
        entry = prepare(task, root, SIDE, place_of, say=said.append)
    assert shown(entry) == expected
    prepare(task, root, SIDE, place_of, say=said.append)
    assert damage_of(entry.folder, whole=True) is None
    (line,) = said
    assert "is damaged" in line
    assert not list(place_of.rglob(".building-*"))


def test_the_whole_entry_is_read_when_that_is_asked_for(root: Path, tmp_path: Path) -> None:
    task, said = catalog()["vtab/kitti"], []
    folder = prepare(task, root, SIDE, tmp_path).folder
    damage(folder / "test.pixels", "flip", 30, 1)
    seen, decoded = watch()
    prepare(task, root, SIDE, tmp_path, decoded, say=said.append)
    assert (said, seen) == ([], []), "pixels are verified by whoever loads them"
    assert "image 0 of test.pixels" in str(damage_of(folder, whole=True))
    prepare(
        task,
        root,
        SIDE,
        tmp_path,
        decoded,
        say=said.append,
        whole=True,
    )
    assert (len(said), seen[-1]) == (1, (9, 9))
    assert damage_of(folder, whole=True) is None


def test_a_split_that_is_open_stays_as_it_is_while_its_entry_is_made_again(
    root: Path, tmp_path: Path
) -> None:
    entry = prepare(catalog()["fgvc/cars"], root, SIDE, tmp_path, say=lambda text: None)
    before = splits(entry)
    (entry.folder / "test.index").unlink()
    assert len(splits(entry)) == len(before)
    for split, again in zip(before, splits(entry), strict=True):
        for one, two in zip(split.images, again.images, strict=True):
            assert np.array_equal(one, two)


def _open_damaged(root: Path, place: Path) -> tuple[list[bytes], list[str]]:
    said: list[str] = []
    entry = prepare(catalog()["vtab/kitti"], root, SIDE, place, say=said.append)
    return shown(entry), said


def test_processes_that_find_the_same_damage_mend_it_once(root: Path, tmp_path: Path) -> None:
    entry = prepare(catalog()["vtab/kitti"], root, SIDE, tmp_path)
    expected = shown(entry)
    damage(entry.folder / "search.pixels", "flip", 100, 1)
    damage(entry.folder / "test.pixels", "flip", 100, 1)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        answers = pool.starmap(_open_damaged, [(root, tmp_path)] * 4, chunksize=1)
    assert [images for images, _ in answers] == [expected] * 4
    assert sum(len(said) for _, said in answers) == 1
    assert damage_of(entry.folder, whole=True) is None


KILLED = """
import os, sys, time
from pathlib import Path
from arc_train.tasks.cache import prepare
from arc_train.tasks.catalog import catalog

def progress(done, total):
    print("decoding", flush=True)
    time.sleep(1000)

prepare(catalog()["vtab/kitti"], Path(sys.argv[1]), 8, Path(sys.argv[2]), progress)
"""


def test_a_killed_build_counts_for_nothing_and_is_cleared_away(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(root), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"decoding\n"
        assert list(tmp_path.rglob(".building-*"))
        other = prepare(catalog()["vtab/kitti"], root, SIDE + 1, tmp_path)
        assert list(tmp_path.rglob(".building-*")), "another entry's build goes on"
        process.send_signal(signal.SIGKILL)
    assert len(cache.entries(catalog()["vtab/kitti"], tmp_path)) == 1
    prepare(catalog()["vtab/kitti"], root, SIDE + 1, tmp_path)
    assert not list(tmp_path.rglob(".building-*"))
    assert shown(prepare(catalog()["vtab/kitti"], root, SIDE, tmp_path)) != shown(other)


def test_room_is_checked_before_anything_is_decoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 100))
    seen, decoded = watch()
    with pytest.raises(InputError, match=r"needs about 0\.0 GB .* free some"):
        prepare(catalog()["vtab/kitti"], root, SIDE, tmp_path, decoded)
    assert not seen


def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"can't fill the cache .*: No space left"):
            prepare(catalog()["vtab/kitti"], root, SIDE, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    prepare(catalog()["vtab/kitti"], root, SIDE, tmp_path)

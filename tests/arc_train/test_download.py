"""Ready archives: fetched from a hub, resumed, unpacked whole or not at all, never outside."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks import download as module
from arc_train.tasks.catalog import catalog
from arc_train.tasks.download import ARCHIVES, download
from arc_train.tasks.sources import open_source
from tests.hub import Hub

VTAB = "/XiN0919/VTAB-1k/resolve/main/vtab-1k.zip"
LISTS = "/datasets/XiN0919/FGVC/resolve/main/json.zip"


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def vtab() -> dict[str, bytes]:
    """Two tasks in NOAH's layout below an outer folder, with what a Mac adds."""
    files = {"__MACOSX/vtab-1k/kitti/._test.txt": b"junk", "vtab-1k/readme.txt": b"hello"}
    draws = np.random.default_rng(0)
    for folder in ("cifar100", "kitti"):
        for split in ("train800", "val200", "test"):
            lines = []
            for i in range(4):
                buffer = io.BytesIO()
                pixels = draws.integers(0, 255, (60, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(buffer, "PNG")
                files[f"vtab-1k/{folder}/images/{split}/{i:06d}.png"] = buffer.getvalue()
                lines.append(f"images/{split}/{i:06d}.png {i}")
            files[f"vtab-1k/{folder}/{split}.txt"] = "\n".join(lines).encode()
    return files


def run(hub: str, name: str, root: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", "data", "prepare", "--download", name]
    return subprocess.run(
        [*command, "--root", str(root)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", **more},
    )


def files(root: Path) -> list[Path]:
    """All that is visible in a root."""
    return [path for top in root.glob("[!.]*") for path in top.rglob("*") if path.is_file()]


def test_a_download_that_was_cut_off_goes_on_and_ends_as_usable_tasks(tmp_path: Path) -> None:
    block = 10 * 2**20  # what the hub's client holds before it writes
    content = zipped({"vtab-1k/ballast": bytes(2 * block), **vtab()})
    with Hub({VTAB: content}, cut=block + 12345) as hub:
        first = run(hub.url, "vtab", tmp_path)
        assert (first.returncode, "Traceback" in first.stderr) == (2, False)
        assert "the same command goes on from there" in first.stderr
        assert files(tmp_path) == []

        hub.cut, hub.down, hub.gets = None, False, []
        second = run(hub.url, "vtab", tmp_path)
        assert second.returncode == 0, second.stderr
        assert hub.gets == [(VTAB, f"bytes={block}-")]
        assert f"data: {{root: {tmp_path}}}" in second.stdout
        for key in ("vtab/cifar100", "vtab/kitti"):
            assert open_source(catalog()[key], tmp_path).size("test") == 4
        assert not list(tmp_path.rglob("*.zip")) + list(tmp_path.rglob("*.part"))

        hub.gets.clear()
        third = run(hub.url, "vtab", tmp_path)
        assert (third.returncode, hub.gets) == (0, [])
        assert "nothing to do" in third.stdout

        shutil.rmtree(tmp_path / "kitti")
        (tmp_path / "cifar100" / "mine.txt").write_text("kept")
        fourth = run(hub.url, "vtab", tmp_path)
        assert "vtab/cifar100: kept" in fourth.stdout
        assert (tmp_path / "cifar100" / "mine.txt").exists()
        assert (tmp_path / "kitti" / "test.txt").exists()


def test_lists_of_fine_grained_tasks_join_the_images_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011" / "images").mkdir(parents=True)
    (tmp_path / "CUB_200_2011" / "val.json").write_text("mine")
    lists = {
        f"json/{folder}/{split}.json": json.dumps({"a.jpg": 0}).encode()
        for folder in ("CUB", "stanfordcars")
        for split in ("train", "val", "test")
    }
    with Hub({LISTS: zipped(lists)}) as hub:
        done = run(hub.url, "fgvc-lists", tmp_path)
        assert done.returncode == 0, done.stderr
    names = sorted(str(path.relative_to(tmp_path)) for path in files(tmp_path))
    splits = ("test", "train", "val")
    expected = [f"{f}/{s}.json" for f in ("CUB_200_2011", "StanfordCars") for s in splits]
    assert names == expected
    assert (tmp_path / "CUB_200_2011" / "val.json").read_text() == "mine"
    assert "without images" in done.stdout


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    with Hub({"/XiN0919/VTAB-1k/resolve/main/other.zip": b""}) as hub:
        answers = [
            (run(hub.url, "vtab", tmp_path), "has no vtab-1k.zip any more"),
            (run(hub.url, "fgvc-lists", tmp_path), "no repository XiN0919/FGVC"),
            (run(hub.url, "vtab", tmp_path, HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE is set"),
            (run(hub.url, "vtab", Path("/proc/nothing")), "can't write into /proc/nothing"),
        ]
    answers.append((run(hub.url, "vtab", tmp_path), "check the connection"))
    for answer, says in answers:
        assert (answer.returncode, "Traceback" in answer.stderr) == (2, False)
        assert says in answer.stderr
    assert files(tmp_path) == []


def arrived(root: Path, content: bytes) -> Path:
    """The archive as if just fetched."""
    path = root / ".arc-sweep-vtab" / ARCHIVES["vtab"].file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(name: str) -> bytes:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO(zipped(vtab()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(entry, "/etc")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zipped({**vtab(), "/kitti/x.txt": b""}), "leaves the folder"),
        (zipped({**vtab(), "vtab-1k/kitti/../../../x.txt": b""}), "leaves the folder"),
        (zipped({**vtab(), "..\\kitti\\x.txt": b""}), "isn't a portable path"),
        (zipped({**vtab(), "C:/kitti/x.txt": b""}), "isn't a portable path"),
        (link("vtab-1k/kitti/images/test/link"), "is a link"),
        (zipped({**vtab(), "again/kitti/test.txt": b""}), "both its entries"),
        (zipped({"notes/readme.txt": b""}), "no folder of a vtab task, only notes"),
        (b"not a zip", "can't be used"),
        (zipped(vtab())[:-100], "can't be used"),
        (zipped(vtab()).replace(b"images/test/000001.png 1", b"images/test/000001.png 2"), "CRC"),
    ],
)
def test_archives_that_are_unsafe_or_damaged_leave_nothing(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = arrived(tmp_path / "root", content)
    with pytest.raises(InputError, match=says):
        download("vtab", tmp_path / "root")
    assert not path.exists()
    assert files(tmp_path / "root") == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["root"]
    arrived(tmp_path / "root", zipped(vtab()))
    assert set(download("vtab", tmp_path / "root").placed) == {"vtab/cifar100", "vtab/kitti"}


def test_no_room_is_said_before_anything_is_unpacked_and_keeps_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = arrived(tmp_path, zipped(vtab()))
    monkeypatch.setattr(module, "SPARE", 1e12)  # as if the archive's files were so much larger
    with pytest.raises(InputError, match="has no room to unpack"):
        download("vtab", tmp_path)
    assert path.exists()
    assert files(tmp_path) == []


def test_stopped_while_unpacking_leaves_nothing_and_goes_on_without_the_hub(
    tmp_path: Path,
) -> None:
    arrived(tmp_path, zipped(vtab()))

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("vtab", tmp_path, unpacked=stop)
    assert files(tmp_path) == []
    assert set(download("vtab", tmp_path).placed) == {"vtab/cifar100", "vtab/kitti"}


parts = st.sampled_from(["..", ".", "", "kitti", "a", "images", "x.txt", "C:", "a\\b", "~"])
names = st.lists(parts, min_size=1, max_size=6).map("/".join).filter(bool)


@settings(max_examples=150)
@given(st.dictionaries(names, st.binary(max_size=9), min_size=1, max_size=4))
def test_no_entry_leaves_the_root_whatever_its_name(entries: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as outside:
        root = Path(outside) / "root"
        arrived(root, zipped(entries))
        try:
            download("vtab", root)
        except InputError:
            assert files(root) == []
        assert [path.name for path in Path(outside).iterdir()] == ["root"]
        assert {path.relative_to(root).parts[0] for path in files(root)} <= {"kitti"}

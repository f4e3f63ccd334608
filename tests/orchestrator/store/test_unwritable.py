"""A full or read-only disk, in the folder's eyes: what is written is whole, or refused by name."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from arc_train.errors import InputError
from orchestrator.cost.room import check_room
from orchestrator.spec import resolve
from orchestrator.store.access import SplitAccess
from orchestrator.store.folder import SweepFolder, Unwritable
from tests.results import result
from tests.rights import reachable_folder, restricted

ACCESS = SplitAccess("2026-01-01T00:00:00Z", "final", "t", "b/m/t", "p", ("x",), 1)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder(tmp_path)
    folder.create()
    return folder


@contextlib.contextmanager
def full(size: int) -> Iterator[None]:
    """No file of this process can grow beyond a size, as long as the block runs."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_result_is_written_whole_or_not_at_all(folder: SweepFolder) -> None:
    entry = result()
    with full(100), pytest.raises(Unwritable, match=rf"can't write .*{entry.id}\.json: "):
        folder.write_result(entry)
    with full(100), pytest.raises(Unwritable, match=r"p\.ckpt: "):
        folder.save_checkpoint("p", bytes(1000))
    assert not list(folder.path.rglob("*.*"))
    folder.write_result(entry)
    assert folder.results() == {entry.id: entry}


def test_a_folder_that_became_read_only_is_named() -> None:
    with reachable_folder() as path:
        folder = SweepFolder(path)
        folder.create()
        with restricted(folder.trials, 0o555), pytest.raises(Unwritable, match=r"write .*denied"):
            folder.write_result(result())
        assert not folder.results()


def test_an_opening_that_can_not_be_recorded_is_refused_and_costs_no_other(
    folder: SweepFolder,
) -> None:
    path = folder.path / "test_access.jsonl"
    folder.record_test_access(ACCESS)
    whole = path.read_bytes()
    with full(len(whole) + 10), pytest.raises(Unwritable, match=r"test_access\.jsonl"):
        folder.record_test_access(ACCESS)
    folder.record_test_access(ACCESS)
    first, cut, last = path.read_bytes().splitlines(keepends=True)
    assert first == last == whole
    assert cut == whole[:10] + b"\n"


def test_a_sweep_that_has_no_room_is_refused_before_anything_is_prepared(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"name": "x", "tasks": "demo", "methods": ["linear", "arc"], "backbones": "arc_pico"}
    spec = resolve(raw, "x")
    check_room(spec, folder)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    with pytest.raises(InputError, match=r"has room for 0\.1 MB, and .* takes about \d+\.\d MB"):
        check_room(spec, folder)

"""What a run finds damaged it sets aside, with the result of a final whose files these were."""

import shutil
from pathlib import Path

import pytest

from orchestrator.store.damage import set_aside_damaged
from orchestrator.store.folder import SweepFolder

VERSION_1 = Path("tests/assets/sweep-version-1")


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    shutil.copytree(VERSION_1, tmp_path / "sweep")
    return SweepFolder(tmp_path / "sweep")


def files(folder: SweepFolder) -> set[str]:
    return {p.relative_to(folder.path).as_posix() for p in folder.path.rglob("*.*") if p.is_file()}


def test_nothing_is_damaged_in_a_folder_of_the_first_version(folder: SweepFolder) -> None:
    before = files(folder)
    assert set_aside_damaged(folder) == []
    assert files(folder) == before


@pytest.mark.parametrize("part", ["adapters", "predictions"])
def test_a_final_whose_files_are_damaged_is_set_aside_whole(folder: SweepFolder, part: str) -> None:
    before = files(folder)
    final = next(result.id for result in folder.results().values() if result.kind == "final")
    path = getattr(folder, part) / f"{final}.{'safetensors' if part == 'adapters' else 'npz'}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(path.read_bytes()[:-1] if path.exists() else b"PK")
    (fault,) = set_aside_damaged(folder)
    assert fault.path == path
    moved = {path.relative_to(folder.path).as_posix(), f"trials/{final}.json"}
    assert files(folder) == before - moved | {f"damaged/{name}.1" for name in moved}
    assert final not in folder.results()
    assert set_aside_damaged(folder) == []

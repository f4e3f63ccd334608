"""`data check` finds each kind of fault that was put in, and nothing in clean data."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arc_train.tasks.cache import prepare
from arc_train.tasks.catalog import catalog
from arc_train.tasks.check import check

SHARED = Path(__file__).parents[3] / "shared" / "data"
VTAB, FGVC = catalog()["vtab/eurosat"], catalog()["fgvc/flowers"]
SIZES = {"train": 24, "val": 12, "test": 22}
LISTS = {"train": "train800", "val": "val200", "test": "test"}


def write(folder: Path, number: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(number)
    Image.fromarray(draws.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder)


@pytest.fixture
def vtab(tmp_path: Path) -> Path:
    """Ten classes, each in a folder of its own below its split's."""
    folder, number = tmp_path / "eurosat", 0
    lines: dict[str, list[str]] = {}
    for split, name in LISTS.items():
        for i in range(SIZES[split]):
            label = i % VTAB.classes
            path = f"images/{name}/class_{label}/{i:06d}.png"
            write(folder / path, number)
            number += 1
            lines.setdefault(name, []).append(f"{path} {label}")
    for name, text in {**lines, "train800val200": lines["train800"] + lines["val200"]}.items():
        (folder / f"{name}.txt").write_text("\n".join(text) + "\n")
    return tmp_path


@pytest.fixture
def fgvc(tmp_path: Path) -> Path:
    """All 102 classes in each list, ids from 1."""
    folder, number = tmp_path / "OxfordFlowers", 0
    for split in SIZES:
        entries = {}
        for label in range(1, 103):
            path = f"{label:03d}.flower/{split}_{label}.png"
            write(folder / "images" / path, number)
            number += 1
            entries[path] = label
        (folder / f"{split}.json").write_text(json.dumps(entries))
    return tmp_path


def edit(root: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    path = root / "eurosat" / f"{name}.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def relabel(*swaps: tuple[int, int]) -> Callable[[list[str]], list[str]]:
    swap = dict(swaps)

    def change(lines: list[str]) -> list[str]:
        parts = [line.rsplit(" ", 1) for line in lines]
        return [f"{path} {swap.get(int(label), int(label))}" for path, label in parts]

    return change


def test_clean_folders_have_no_fault_and_the_fingerprint_of_their_cache(
    vtab: Path, fgvc: Path, tmp_path: Path
) -> None:
    for task in (VTAB, FGVC):
        report = check(task, tmp_path)
        assert report.faults == []
        assert report.classes == task.classes
        assert report.fingerprint == prepare(task, tmp_path, 16, tmp_path / "cache").fingerprint
    assert check(VTAB, vtab).encodings == {"PNG": 58}


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not beside the project")
@pytest.mark.parametrize(
    "key", ["vtab/cifar100", "vtab/caltech101", "vtab/dsprites_loc", "vtab/dsprites_ori"]
)
def test_real_packs_have_no_fault(key: str) -> None:
    report = check(catalog()[key], SHARED)
    assert report.faults == []
    assert report.sizes == {"train": 800, "val": 200, "test": 500}


@pytest.mark.parametrize("key", ["demo/digits", "demo/count"])
def test_embedded_tasks_have_no_fault(key: str) -> None:
    assert check(catalog()[key], None).faults == []


def test_a_class_missing_from_test(vtab: Path) -> None:
    edit(vtab, "test", lambda lines: [line for line in lines if not line.endswith(" 4")])
    (fault,) = check(VTAB, vtab).faults
    assert fault == "no test image of class 4"


def test_a_class_missing_from_training_images_is_a_fact(vtab: Path) -> None:
    for name in ("train800", "train800val200"):
        edit(vtab, name, lambda lines: [x for x in lines if "/train800/class_4/" not in x])
    report = check(VTAB, vtab)
    assert report.faults == []
    assert "train has no image of 1 of 10 classes" in report.facts


def test_labels_of_two_classes_swapped_in_one_split(vtab: Path) -> None:
    edit(vtab, "test", relabel((2, 7), (7, 2)))
    faults = check(VTAB, vtab).faults
    assert len(faults) == 2
    assert all("have several classes: 2 at" in fault for fault in faults)
    assert "class_2" in faults[0]
    assert "class_7" in faults[1]


def test_swapped_ids_in_fgvc_lists(fgvc: Path) -> None:
    path = fgvc / "OxfordFlowers" / "test.json"
    entries = json.loads(path.read_text())
    first, second = list(entries)[:2]
    entries[first], entries[second] = entries[second], entries[first]
    path.write_text(json.dumps(entries))
    faults = check(FGVC, fgvc).faults
    assert [("001.flower" in fault, "002.flower" in fault) for fault in faults] == (
        [(True, False), (False, True)]
    )


def test_a_test_image_among_the_training_images(vtab: Path) -> None:
    images = vtab / "eurosat" / "images"
    shutil.copy(images / "test/class_3/000013.png", images / "train800/class_3/000003.png")
    (fault,) = check(VTAB, vtab).faults
    assert "1 images stand in two splits" in fault
    assert "test.txt:14 is the image of" in fault
    assert "train800.txt:4" in fault


def test_images_that_cannot_be_read_are_all_named(vtab: Path) -> None:
    for name in ("test/class_3/000013.png", "val200/class_1/000001.png"):
        path = vtab / "eurosat" / "images" / name
        path.write_bytes(path.read_bytes()[:200])
    faults = check(VTAB, vtab).faults
    assert len(faults) == 2
    assert "val200.txt:2: can't read image" in faults[0]
    assert "test.txt:14: can't read image" in faults[1]


def test_a_line_that_stands_twice(vtab: Path) -> None:
    edit(vtab, "test", lambda lines: [*lines, lines[5]])
    (fault,) = check(VTAB, vtab).faults
    assert "test.txt:23: listed before, at" in fault


def test_too_few_and_too_many_classes(vtab: Path) -> None:
    few = check(catalog()["vtab/resisc45"], _renamed(vtab, "resisc45"))
    assert any("10 classes occur, vtab/resisc45 has 45: missing 10, 11" in f for f in few.faults)
    many = check(catalog()["vtab/kitti"], _renamed(vtab, "kitti"))
    assert any("label 4 is out of range" in fault for fault in many.faults)


def _renamed(root: Path, name: str) -> Path:
    shutil.copytree(root / "eurosat", root / "other" / name)
    return root / "other"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("../../secret.png 1", "leaves the task's folder"),
        ("/etc/passwd 1", "leaves the task's folder"),
        ("images/none.png 1", "no image"),
    ],
)
def test_bad_lines(vtab: Path, line: str, says: str) -> None:
    edit(vtab, "test", lambda lines: [line, *lines])
    (fault,) = check(VTAB, vtab).faults
    assert says in fault
    assert "test.txt:1" in fault


def test_an_empty_split(vtab: Path) -> None:
    edit(vtab, "val200", lambda lines: [])
    (fault,) = check(VTAB, vtab).faults
    assert "val200.txt lists no images" in fault


def test_windows_line_ends_and_spaces_are_no_fault(vtab: Path) -> None:
    folder = vtab / "eurosat"
    (folder / "images/test/class_0").rename(folder / "images/test/class 0")
    path = folder / "test.txt"
    text = path.read_text().replace("test/class_0", "test/class 0")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert check(VTAB, vtab).faults == []


def test_greyscale_and_tiny_images_are_facts(vtab: Path) -> None:
    image = vtab / "eurosat/images/test/class_0/000000.png"
    Image.new("L", (8, 8), 7).save(image)
    report = check(VTAB, vtab)
    assert report.faults == []
    assert "1 images are greyscale" in report.facts
    assert "1 images have a side below 16 pixels" in report.facts


def test_how_images_are_stored_is_a_fact_where_it_matters(vtab: Path) -> None:
    for path in (vtab / "eurosat/images/test").rglob("*.png"):
        with Image.open(path) as image:
            image.convert("RGB").save(path, "JPEG")
    report = check(VTAB, vtab)
    assert report.faults == []
    assert report.encodings == {"PNG": 36, "JPEG": 22}
    (fact,) = [fact for fact in report.facts if "stored in" in fact]
    assert "(JPEG, PNG)" in fact
    cifar = check(catalog()["vtab/cifar100"], _renamed(vtab, "cifar"))
    assert any("ten points" in fact for fact in cifar.facts)


def test_the_other_published_test_size_is_not_worth_a_word(tmp_path: Path) -> None:
    task = replace(FGVC, train=102, val=102, test=103, test_too=(102,))
    folder = tmp_path / "OxfordFlowers"
    for split in SIZES:
        entries = {f"{label:03d}.f/{split}.png": label for label in range(102)}
        for number, path in enumerate(entries):
            write(folder / path, 1000 * (1 + list(SIZES).index(split)) + number)
        (folder / f"{split}.json").write_text(json.dumps(entries))
    report = check(task, tmp_path)
    assert (report.facts, report.faults, report.variant) == ([], [], "fgvc lists")

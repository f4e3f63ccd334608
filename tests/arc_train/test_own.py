"""A user's own images become a task: found as they lie, split by one rule, refused in one line."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.cache import prepare
from arc_train.tasks.catalog import Location, Task, catalog
from arc_train.tasks.check import check
from arc_train.tasks.hub import Draw
from arc_train.tasks.own import OwnLists
from arc_train.tasks.sources import Source, open_source
from arc_train.tasks.splits import SPLITS, complete
from arc_train.tasks.views import final_data, search_data

CLASSES = ("ant", "bee", "cat")


def picture(path: Path, number: int, **save: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)


def folders(root: Path, count: int = 10, names: Sequence[str] = CLASSES) -> Path:
    for label, name in enumerate(names):
        for i in range(count):
            picture(root / name / f"{i:02d}.png", label * count + i)
    return root


def own(folder: Path | None = None, **where: Any) -> Task:
    return Task("mine", "mine", "own", location=Location(folder, **where))


def found(source: Source) -> dict[str, tuple[str, ...]]:
    """The class names of each split's images, in order."""
    names = source.task.class_names
    return {split: tuple(names[i] for i in source.labels(split)) for split in SPLITS}


def test_a_folder_for_each_class_is_split_class_by_class(tmp_path: Path) -> None:
    source = open_source(own(folders(tmp_path)), None)
    task = source.task
    assert (task.classes, task.class_names) == (3, CLASSES)
    assert (task.train, task.val, task.test) == (18, 6, 6)
    counts = {split: Counter(names) for split, names in found(source).items()}
    assert counts["val"] == counts["test"] == dict.fromkeys(CLASSES, 2)
    assert source.split == "drawn"
    assert source.variant == "class folders (val and test drawn with seed 0)"


def test_the_draw_is_of_names_so_that_a_copy_has_the_same_and_a_new_image_moves_few(
    tmp_path: Path,
) -> None:
    def test_images(root: Path, seed: int = 0) -> set[str]:
        source = open_source(own(root), None, Draw(seed=seed))
        assert isinstance(source, OwnLists)
        return {str(line.path.relative_to(root)) for line in source.rows("test")}

    first = folders(tmp_path / "a", count=20)
    drawn = test_images(first)
    shutil.copytree(first, tmp_path / "b")
    assert test_images(tmp_path / "b") == drawn
    assert test_images(first, seed=1) != drawn
    picture(first / "ant" / "new.png", 999)
    assert len(test_images(first) - drawn) <= 1


@given(st.lists(st.integers(3, 40), min_size=2, max_size=6), st.integers(0, 9), st.booleans())
def test_every_image_is_in_one_split_and_every_class_in_all(
    counts: list[int], seed: int, test_given: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    every = np.arange(len(labels))
    parts = {"train": every}
    if test_given:
        ends = np.cumsum(counts) - 1  # the last image of each class
        parts = {"train": np.setdiff1d(every, ends), "test": ends}
    names = [str(i) for i in range(len(counts))]
    made = complete(parts, labels, names, str, seed, "here")
    assert sorted(np.concatenate([made[split] for split in SPLITS]).tolist()) == every.tolist()
    for split in SPLITS:
        assert set(labels[made[split]]) == set(range(len(counts)))
    if test_given:
        assert made["test"].tolist() == parts["test"].tolist()


def test_split_folders_are_taken_as_given_and_what_lacks_is_drawn(tmp_path: Path) -> None:
    for name, count in (("Training", 10), ("test", 4)):
        folders(tmp_path / name, count)
    source = open_source(own(tmp_path), None)
    assert [source.size(split) for split in SPLITS] == [24, 6, 12]
    assert source.variant == "class folders (val drawn with seed 0)"
    folders(tmp_path / "valid", 3)
    source = open_source(own(tmp_path), None)
    assert [source.size(split) for split in SPLITS] == [30, 9, 12]
    assert (source.split, source.variant) == ("given", "class folders")


LINES = [(f"p/{i}.png", CLASSES[i % 3], SPLITS[i // 3 % 3]) for i in range(18)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "image,label,split\n" + "".join(f"{p},{c},{s}\n" for p, c, s in LINES)),
        ("x.csv", "\ufeffid;Class;FileName;set\r\n" + "".join(
            f'7;{c};"{p}";{s.upper()}\r\n' for p, c, s in LINES)),
        ("x.tsv", "label\tpath\tsubset\n" + "".join(f"{c}\t{p}\t{s}\n" for p, c, s in LINES)),
        ("x.txt", "".join(f"{p} {c} {s}\n" for p, c, s in LINES)),
        ("x.csv", "n,what,pic,part\n" + "".join(f"0,{c},{p},{s}\n" for p, c, s in LINES)),
    ],
)  # fmt: skip
def test_a_list_of_paths_labels_and_splits(tmp_path: Path, name: str, text: str) -> None:
    for i, (path, _, _) in enumerate(LINES):
        picture(tmp_path / path, i)
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    columns = {"image": "pic", "label": "what", "split": "part"} if "what" in text else {}
    by_list = open_source(own(list=tmp_path / name, **columns), None)
    assert found(by_list) == {s: tuple(c for _, c, t in LINES if s == t) for s in SPLITS}
    assert by_list.variant == f"list {name}"
    if name.endswith("csv"):
        assert found(open_source(own(tmp_path, **columns), None)) == found(by_list)


def test_lists_of_splits_and_numbers_as_labels(tmp_path: Path) -> None:
    for i in range(30):
        picture(tmp_path / f"a b/{i}.png", i)
    lines = [f"a b/{i}.png {(2, 10, 7)[i % 3]}\n" for i in range(30)]
    (tmp_path / "train800.txt").write_text("".join(lines[:24]))
    (tmp_path / "test.txt").write_text("".join(lines[24:]))
    source = open_source(own(tmp_path), None)
    assert source.task.class_names == ("2", "7", "10")
    assert found(source)["test"] == ("2", "10", "7") * 2
    assert source.variant == "lists train800.txt test.txt (val drawn with seed 0)"


def test_a_list_may_lie_apart_from_its_images(tmp_path: Path) -> None:
    folders(tmp_path / "images")
    lines = [f"{name}/{i:02d}.png,{name}" for name in CLASSES for i in range(10)]
    (tmp_path / "apart").mkdir()
    path = tmp_path / "apart" / "labels.csv"
    path.write_text("\n".join(["file_name,category", *lines]))
    source = open_source(own(tmp_path / "images", list=path), None)
    assert [source.size(split) for split in SPLITS] == [18, 6, 6]


@pytest.mark.parametrize("kind", ["class label", "text", "number", "split column", "parquet"])
def test_a_data_set_in_a_folder(tmp_path: Path, kind: str) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
    from datasets import Image as ImageFeature

    pictures = [np.full((8, 8, 3), i, dtype=np.uint8) for i in range(30)]
    numbers = [i % 3 for i in range(30)]
    label: Any = {"text": Value("string"), "number": Value("int64")}.get(
        kind, ClassLabel(names=list(CLASSES))
    )
    values = [CLASSES[i] for i in numbers] if kind == "text" else numbers
    columns: dict[str, Any] = {"picture": pictures, "kind": values}
    features = {"picture": ImageFeature(), "kind": label}
    if kind == "split column":
        columns["part"] = ["train"] * 21 + ["test"] * 9
        features["part"] = Value("string")
    rows = Dataset.from_dict(columns, features=Features(features))
    folder = tmp_path / "set"
    if kind == "parquet":
        folder.mkdir()
        rows.to_parquet(str(folder / "part-0.parquet"))
    elif kind == "split column":
        rows.save_to_disk(str(folder))
    else:
        DatasetDict(train=rows.select(range(21)), test=rows.select(range(21, 30))).save_to_disk(
            str(folder)
        )
    split = {"split": "part"} if kind == "split column" else {}
    source = open_source(own(folder, label="kind", **split), None)
    assert source.task.class_names == (("0", "1", "2") if kind == "number" else CLASSES)
    if kind == "parquet":
        assert [source.size(s) for s in SPLITS] == [18, 6, 6]
    else:
        assert [source.size(s) for s in SPLITS] == [18, 3, 9]
        assert "(val drawn with seed 0)" in source.variant
    for split_name in SPLITS:
        shown = [np.asarray(image)[0, 0, 0] for image, _ in source.images(split_name)]
        assert [i % 3 for i in shown] == source.labels(split_name).tolist()


def _few(root: Path) -> Task:
    folders(root, 4)
    folders(root, 2, ["dog"])
    return own(root)


def _csv(text: str) -> Callable[[Path], Task]:
    def make(root: Path) -> Task:
        folders(root / "p", 4)
        (root / "labels.csv").write_text(text)
        return own(root)

    return make


def _unlearned(root: Path) -> Task:
    folders(root / "train", 4)
    folders(root / "test", 1, [*CLASSES, "dog"])
    return own(root)


def _mixed(root: Path) -> Task:
    folders(root / "train")
    return own(folders(root))


def _loose(root: Path) -> Task:
    picture(root / "loose.png", 1)
    return own(folders(root))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: own(root / "none"), "task mine: no folder .*none on "),
        (lambda root: own(list=root / "none.csv"), "task mine: no list .*none.csv on "),
        (lambda root: own(root), "no images in .*expected a sub-folder for each class"),
        (lambda root: own(folders(root, names=["ant"])), "one class, 'ant'"),
        (_few, "class 'dog' has 2 training images, too few to draw test and val from: it needs 3"),
        (_unlearned, "class 'dog' has test images but no training image"),
        (_mixed, "train/ beside ant/"),
        (_loose, "loose.png lies in no class folder"),
        (lambda root: own(folders(root / "val").parent), "no training images, only val"),
        (_csv("p/ant/00.png,ant\np/bee/00.png,bee\n"), "no column is called image, path, file"),
        (_csv("image,weight\np/ant/00.png,3\n"), "no column is called label, class, class_name"),
        (_csv("image,label\np/ant/00.png,0.37\n"), r"labels.csv:2: the label 0.37 is no class"),
        (_csv("image,label\np/ant/00.png,nan\n"), r"labels.csv:2: the label nan is no class"),
        (_csv("image,label\np/ant/00.png,\n"), r"labels.csv:2: the label is empty"),
        (_csv("image,label\np/ant/00.png\n"), r"labels.csv:2: 1 cells, .*2 columns"),
        (_csv("image,label\n../../x.png,ant\n"), r"labels.csv:2: .*leaves the task's folder"),
        (_csv("image,label\np/ant/99.png,ant\n"), r"labels.csv:2: no image"),
        (_csv("image,label,split\np/ant/00.png,ant,all\n"), r"labels.csv:2: split 'all' is none"),
        (_csv("image,label\n"), "lists no images"),
        (_csv(""), "no column is called"),
        (lambda root: own(list=_csv("a,b\n")(root).location.folder / "labels.csv", label="c"),  # type: ignore[union-attr, operator]
         "no column is called image|no column 'c'"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_task_is_refused_in_one_line(
    make: Callable[[Path], Task], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        open_source(make(tmp_path), None)
    assert "\n" not in str(caught.value)


def test_resize_and_augment_are_chosen(tmp_path: Path) -> None:
    folders(tmp_path / "mine")
    for resize, augment, cropped in (
        ("squash", "none", False),
        ("crop", "none", False),
        ("squash", "crop+flip", True),
        ("crop", "crop+flip", True),
    ):
        task = Task(
            "mine", "mine", "own", resize=resize, augment=augment,  # type: ignore[arg-type]
            location=Location(tmp_path / "mine"),
        )  # fmt: skip
        entry = prepare(task, None, 14, tmp_path / "cache")
        data = search_data(entry)
        assert (data.train.cropped, len(data.train), len(data.val)) == (cropped, 18, 6)
        assert len(final_data(entry, "train", lambda: None).open_test()) == 6


def test_photographs_are_turned_as_exif_says_but_not_those_of_published_tasks(
    tmp_path: Path,
) -> None:
    folders(tmp_path / "mine")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = tmp_path / "mine" / "ant" / "00.png"
    picture(path, 0, exif=exif)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    turned = open_source(own(tmp_path / "mine"), None)
    assert isinstance(turned, OwnLists)
    lines = [line for split in SPLITS for line in turned.rows(split)]
    (line,) = [line for line in lines if line.path == path]
    assert np.array_equal(np.asarray(line.read()[0]), np.rot90(stored, -1))
    facts = check(own(tmp_path / "mine"), None).facts
    assert "1 images say in EXIF how to turn them, and are turned as it says" in facts

    published = tmp_path / "dtd"
    for split in ("train800", "val200", "test"):
        (published / split).mkdir(parents=True)
        shutil.copy(path, published / split)
        (published / f"{split}.txt").write_text(f"{split}/00.png 0\n")
    source = open_source(catalog()["vtab/dtd"], tmp_path)
    ((image, _),) = source.images("test")
    assert np.array_equal(np.asarray(image), stored)
    assert any("stay as stored" in fact for fact in check(catalog()["vtab/dtd"], tmp_path).facts)


def test_check_counts_a_fault_that_images_share(tmp_path: Path) -> None:
    folders(tmp_path)
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(np.full((8, 8), 300, dtype=np.float32)).save(path, "TIFF")
    (fault,) = check(own(tmp_path), None).faults
    assert fault.startswith("30 images have pixels of type float32 out of range, such as ")
    assert len(fault) < 1000


def test_files_that_are_taken_for_no_images_are_counted(tmp_path: Path) -> None:
    folders(tmp_path)
    for name in ("a.heic", "b.HEIC", "notes.txt", ".hidden"):
        (tmp_path / "ant" / name).write_bytes(b"?")
    fact = "3 files are no images by their names and are passed over: 2 .heic, 1 .txt"
    assert fact in check(own(tmp_path), None).facts


def test_check_names_classes(tmp_path: Path) -> None:
    report = check(own(folders(tmp_path)), None)
    assert (report.faults, report.class_names, report.classes) == ([], CLASSES, 3)
    assert report.per_class["train"] == [6, 6, 6]


def test_check_reads_a_data_set_of_arrays(tmp_path: Path) -> None:
    from datasets import Dataset

    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3)).tolist()
    rows = Dataset.from_dict({"image": pixels, "label": [i % 2 for i in range(20)]})
    rows.save_to_disk(str(tmp_path / "set"))
    report = check(own(tmp_path / "set"), None)
    assert (report.faults, report.sizes) == ([], {"train": 12, "val": 4, "test": 4})

"""Lists are checked before anything else; images are decoded once, whoever asks; test is sealed."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.cache import Entry, prepare
from arc_train.tasks.catalog import catalog, groups
from arc_train.tasks.drawn import draw
from arc_train.tasks.transform import transform
from arc_train.tasks.views import final_data, search_data

TASK = catalog()["vtab/kitti"]  # 4 classes
SIZES = {"train800": 8, "val200": 4, "test": 6}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small VTAB-1k folder of real PNG files."""
    folder = tmp_path / "data" / "kitti"
    draws = np.random.default_rng(0)
    lists: dict[str, list[str]] = {}
    for split, count in SIZES.items():
        (folder / "images" / split).mkdir(parents=True)
        for i in range(count):
            name = f"images/{split}/{i:06d}.png"
            Image.fromarray(draws.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / name)
            lists.setdefault(split, []).append(f"{name} {i % 4}")
    lists["train800val200"] = lists["train800"] + lists["val200"]
    for split, lines in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def edit(root: Path, split: str, line: int, text: str) -> str:
    """Replace a line of a list; returns the place that an error should name."""
    path = root / "kitti" / f"{split}.txt"
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    return f"{split}.txt:{line}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("../../secret.png 1", "leaves the task's folder"),
        ("/etc/passwd 1", "leaves the task's folder"),
        ("images/val200/nothing.png 1", "no image"),
        ("images/val200/000000.png 4", "out of range"),
        ("images/val200/000000.png -1", "expected 'path label'"),
        ("images/val200/000000.png", "expected 'path label'"),
        ("images/val200/000000.png one", "expected 'path label'"),
    ],
)
def test_a_wrong_line_is_named_with_file_and_number(root: Path, text: str, says: str) -> None:
    where = edit(root, "val200", 3, text)
    with pytest.raises(InputError, match=says) as caught:
        prepare(TASK, root, 16, root / "cache")
    assert where in str(caught.value)
    assert not list((root / "cache").rglob("*.pixels"))


def test_an_unreadable_image_is_named_and_leaves_no_cache_behind(root: Path) -> None:
    image = root / "kitti/images/test/000002.png"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(InputError, match=r"test\.txt:3: can't read image .*000002\.png"):
        prepare(TASK, root, 16, root / "cache")
    assert not list((root / "cache").rglob("*.pixels"))


def test_a_missing_list_an_empty_one_and_a_missing_folder_are_told_apart(root: Path) -> None:
    with pytest.raises(InputError, match=r"no folder kitti in data\.root"):
        prepare(TASK, root / "kitti", 16, root / "cache")
    with pytest.raises(InputError, match=r"set data\.root"):
        prepare(TASK, None, 16, root / "cache")
    (root / "kitti/val200.txt").write_text("\n")
    with pytest.raises(InputError, match="lists no images"):
        prepare(TASK, root, 16, root / "cache")
    (root / "kitti/val200.txt").unlink()
    with pytest.raises(InputError, match=r"can't read list .*val200\.txt"):
        prepare(TASK, root, 16, root / "cache")


def test_a_joined_list_that_joins_something_else_is_refused(root: Path) -> None:
    edit(root, "train800val200", 1, "images/train800/000000.png 3")
    with pytest.raises(InputError, match="doesn't join"):
        prepare(TASK, root, 16, root / "cache")


def test_spaces_in_paths_and_windows_line_ends_are_fine(root: Path) -> None:
    plain = prepare(TASK, root, 16, root / "cache").fingerprint
    folder = root / "kitti"
    (folder / "images/val200/000001.png").rename(folder / "images/val200/a b.png")
    edit(root, "val200", 2, "images/val200/a b.png 1")
    edit(root, "train800val200", 10, "images/val200/a b.png 1")
    path = folder / "val200.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert prepare(TASK, root, 16, root / "cache").fingerprint == plain


def test_the_fingerprint_changes_with_an_image_or_a_label_and_nothing_else(root: Path) -> None:
    first = prepare(TASK, root, 16, root / "cache")
    assert prepare(TASK, root, 24, root / "cache").fingerprint == first.fingerprint
    edit(root, "val200", 1, "images/val200/000000.png 2")
    edit(root, "train800val200", 9, "images/val200/000000.png 2")
    second = prepare(TASK, root, 16, root / "cache")
    image = root / "kitti/images/test/000000.png"
    Image.new("RGB", (20, 30)).save(image)
    third = prepare(TASK, root, 16, root / "cache")
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3


def test_a_split_of_other_sizes_is_not_called_the_published_one(root: Path) -> None:
    assert "not the published split" in prepare(TASK, root, 16, root / "cache").variant


def _prepare(root: Path) -> tuple[str, int]:
    decoded = []
    entry = prepare(TASK, root, 16, root / "cache", lambda *far: decoded.append(far))
    return entry.fingerprint, len(decoded)


def test_processes_that_ask_at_once_decode_once(root: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        answers = pool.map(_prepare, [root] * 4, chunksize=1)
    assert len({fingerprint for fingerprint, _ in answers}) == 1
    assert sorted(count for _, count in answers) == [0, 0, 0, sum(SIZES.values())]


def test_cached_pixels_are_the_resized_images(root: Path) -> None:
    images, labels = prepare(TASK, root, 16, root / "cache").open_test(lambda: None)
    with Image.open(root / "kitti/images/test/000001.png") as image:
        expected = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(images[1], expected)
    assert labels.tolist() == [0, 1, 2, 3, 0, 1]


def reachable(thing: object, seen: set[int]) -> list[object]:
    """Everything that can be reached from an object through attributes and closures."""
    if id(thing) in seen or isinstance(thing, (str, bytes, int, float, type)):
        return [thing]
    seen.add(id(thing))
    parts = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    parts += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    return [thing] + [found for part in parts for found in reachable(part, seen)]


def test_search_data_has_no_way_to_the_test_split(root: Path) -> None:
    entry = prepare(TASK, root, 16, root / "cache")
    found = reachable(search_data(entry), set())
    assert not any(isinstance(thing, (Entry, Path)) for thing in found)


def test_opening_the_test_split_goes_on_record_first(root: Path) -> None:
    entry = prepare(TASK, root, 16, root / "cache")
    opened: list[int] = []
    data = final_data(entry, "train+val", lambda: opened.append(1))
    assert (len(data.train), opened) == (12, [])
    assert len(final_data(entry, "train", lambda: None).train) == 8
    assert (len(data.open_test()), opened) == (6, [1])
    with pytest.raises(InputError, match="the test split is sealed"):
        entry.load("test")


def test_the_catalogue_has_the_24_tasks_with_the_published_class_total() -> None:
    named = groups()
    assert [len(named[g]) for g in ("vtab/natural", "vtab/specialized", "vtab/structured")] == [
        7,
        4,
        8,
    ]
    assert len(named["fgvc"]) == 5
    assert len(named["all"]) == 24
    assert sum(catalog()[key].classes for key in named["vtab"]) == 940
    assert sum(catalog()[key].classes for key in named["fgvc"]) == 1173


def test_both_published_test_sizes_of_caltech101_are_published() -> None:
    task = catalog()["vtab/caltech101"]
    assert [task.published(800, 200, test) for test in (6084, 6085, 6086)] == [True, True, False]


def test_every_task_says_what_its_classes_are() -> None:
    for task in catalog().values():
        assert task.label
        assert task.licence
        assert (task.metric, bool(task.sources)) == ("accuracy", True)


@pytest.mark.parametrize("key", groups()["demo"])
def test_demo_tasks_are_deterministic_disjoint_and_have_every_class(key: str) -> None:
    task = catalog()[key]
    splits = {name: draw(key, name) for name in ("train800", "val200", "test")}
    seen: set[bytes] = set()
    for name, count in (("train800", task.train), ("val200", task.val), ("test", task.test)):
        images, labels = splits[name]
        assert images.shape == (count, 32, 32, 3)
        assert sorted(set(labels.tolist())) == list(range(task.classes))
        content = {image.tobytes() for image in images}
        assert not seen & content
        seen |= content
    again, _ = draw(key, "val200")
    assert np.array_equal(again, splits["val200"][0])


CARS = catalog()["fgvc/cars"]


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    """A small folder in VPT's layout: images of varied shape, ids with gaps, few of them in val."""
    folder = tmp_path / "data" / "StanfordCars"
    (folder / "car_ims").mkdir(parents=True)
    draws = np.random.default_rng(0)
    number = 0
    for split, ids in (("train", [7, 3, 100, 12]), ("val", [3, 100]), ("test", [100, 12, 7])):
        entries = {}
        for label in ids:
            name = f"car_ims/{number:06d}.png"
            shape = (20 + 3 * number, 50 - 2 * number, 3)
            pixels = draws.integers(0, 255, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
            entries[name] = label if split != "test" else str(label)
            number += 1
        (folder / f"{split}.json").write_text(json.dumps(entries))
    return tmp_path / "data"


def test_fgvc_ids_become_classes_by_their_rank_over_all_lists(cars: Path) -> None:
    entry = prepare(CARS, cars, 14, cars / "cache")
    assert entry.load("train")[1].tolist() == [1, 0, 3, 2]
    assert entry.load("val")[1].tolist() == [0, 3]
    assert entry.open_test(lambda: None)[1].tolist() == [3, 2, 1]
    assert "fgvc lists" in entry.variant


def test_fgvc_images_keep_their_aspect_and_are_cropped(cars: Path) -> None:
    entry = prepare(CARS, cars, 14, cars / "cache")
    images, _ = entry.load("train")
    with Image.open(cars / "StanfordCars/car_ims/000001.png") as image:
        size = tuple(16 * length // min(image.size) for length in image.size)
        expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    assert np.array_equal(images[1], expected)
    split = search_data(entry).train
    assert split.cropped
    (centre,) = split.batch(torch.tensor([1]))
    top, left = (round((length - 14) / 2) for length in expected.shape[:2])
    assert np.array_equal(centre, expected[top : top + 14, left : left + 14])
    corners = torch.tensor([[0.0, 0.0, 0.9], [0.999, 0.999, 0.9], [0.0, 0.0, 0.1]])
    first, last, mirrored = split.batch(torch.tensor([1, 1, 1]), corners)
    assert np.array_equal(first, expected[:14, :14])
    assert np.array_equal(last, expected[-14:, -14:])
    assert np.array_equal(mirrored, expected[:14, :14][:, ::-1])
    joined = final_data(entry, "train+val", lambda: None).train
    assert len(joined) == 6
    assert joined.batch(torch.tensor([[0, 5], [4, 3]])).shape == (2, 2, 14, 14, 3)


@pytest.mark.parametrize("shape", [(300, 200), (200, 301), (64, 333), (224, 224), (900, 701)])
@pytest.mark.parametrize("key", ["vtab/kitti", "fgvc/cars"])
@pytest.mark.parametrize("other_augment", [False, True])
def test_timm_makes_the_same_test_images_from_an_exported_config(
    key: str, other_augment: bool, shape: tuple[int, int], tmp_path: Path
) -> None:
    task = catalog()[key]
    if other_augment:
        task = replace(task, augment="crop+flip" if task.augment == "none" else "none")
    draws = np.random.default_rng(0)
    small = draws.integers(0, 255, (shape[0] // 8, shape[1] // 8, 3), dtype=np.uint8)
    photo = Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC)
    folder = tmp_path / task.folders[0]
    folder.mkdir()
    photo.save(folder / "0.png")
    for name in ("train800", "val200", "test"):
        (folder / f"{name}.txt").write_text("0.png 0\n")
    for name in ("train", "val", "test"):
        (folder / f"{name}.json").write_text('{"0.png": 0}')
    entry = prepare(task, tmp_path, 224, tmp_path / "cache")
    (ours,) = final_data(entry, "train", lambda: None).open_test().batch(torch.tensor([0]))

    config = {"mean": (0, 0, 0), "std": (1, 1, 1), **transform(task, 224).timm()}
    data = timm.data.resolve_model_data_config(SimpleNamespace(pretrained_cfg=config))
    theirs = 255 * timm.data.create_transform(**data)(photo).permute(1, 2, 0)
    assert (theirs - ours).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "lists no images"),
        ("{}", "lists no images"),
        ('{"car_ims/000000.png": "Audi"}', "expected a whole number"),
        ('{"car_ims/000000.png": true}', "expected a whole number"),
        ('{"../../x.png": 3}', "leaves the task's folder"),
        ('{"/etc/passwd": 3}', "leaves the task's folder"),
        ('{"car_ims/nothing.png": 3}', "no image"),
        (json.dumps({f"car_ims/{i}.png": i for i in range(197)}), "name 197 classes"),
    ],
)
def test_wrong_fgvc_lists_are_named(cars: Path, content: str, says: str) -> None:
    (cars / "StanfordCars" / "val.json").write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        prepare(CARS, cars, 14, cars / "cache")
    assert "StanfordCars" in str(caught.value)
    (cars / "StanfordCars" / "val.json").unlink()
    with pytest.raises(InputError, match=r"can't read list .*val\.json"):
        prepare(CARS, cars, 14, cars / "cache")

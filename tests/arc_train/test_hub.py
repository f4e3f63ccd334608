"""Hugging Face data sets through the real library: saved, loaded, labelled, drawn, cached."""

import io
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pixels

from arc_train.errors import InputError
from arc_train.tasks.cache import prepare
from arc_train.tasks.catalog import catalog
from arc_train.tasks.check import check
from arc_train.tasks.hub import Draw, HubSource, _turns
from arc_train.tasks.sources import HUB, open_source
from arc_train.tasks.views import search_data

DTD, RESISC = (catalog()[f"vtab/{name}"] for name in ("dtd", "resisc45"))
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Pixels.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def split(count: int, classes: int, start: int = 0, **columns: list[Any]) -> Dataset:
    """Rows with a class each in turn; `columns` in place of the label, if given."""
    rows: dict[str, list[Any]] = {
        "image": [{"bytes": png(start + i), "path": None} for i in range(count)]
    }
    rows |= columns or {"label": [i % classes for i in range(count)]}
    found = Dataset.from_dict(rows).cast_column("image", Image())
    if not columns:
        found = found.cast_column("label", ClassLabel(num_classes=classes))
    return found


def dtd() -> DatasetDict:
    return DatasetDict(
        train=split(900, 47), validation=split(230, 47, 1000), test=split(94, 47, 2000)
    )


def place(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    return folder


def saved(root: Path, found: DatasetDict, how: str, name: str = "dtd") -> Path:
    folder = place(root, name)
    if how == "save_to_disk":
        found.save_to_disk(str(folder))
    elif how == "parquet":
        for key, part in found.items():
            part.to_parquet(str(folder / f"{key}-00000-of-00001.parquet"))
    else:
        for key, part in found.items():
            for i, row in enumerate(part.cast_column("image", Image(decode=False))):
                path = folder / key / f"class{row['label']:03}" / f"{i:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(row["image"]["bytes"])
    return root


@pytest.mark.parametrize("how", ["save_to_disk", "parquet", "imagefolder"])
def test_a_saved_data_set_becomes_a_task(tmp_path: Path, how: str) -> None:
    root = saved(tmp_path / "root", dtd(), how)
    source = open_source(DTD, root)
    assert isinstance(source, HubSource)
    assert [source.size(name) for name in ("train", "val", "test")] == [800, 200, 94]
    assert source.split == "drawn"
    entry = prepare(DTD, root, 16, tmp_path / "cache")
    assert (entry.variant, entry.split) == ("data set folder", "drawn")
    data = search_data(entry)
    assert data.train.batch(data.train.labels.argsort()[:4]).shape == (4, 16, 16, 3)
    pixels, label = next(source.images("test"))[0], source.labels("test")[0]
    assert (pixels.size, int(label)) == ((8, 6), 0)
    report = check(DTD, root)
    assert not report.faults
    assert report.encodings == {"PNG": 1094}
    assert report.fingerprint == entry.fingerprint
    assert report.per_class["test"] == [2] * 47
    assert sum(report.per_class["train"]) == 800
    assert any("drawn" in fact for fact in report.facts)


def test_the_draw_is_the_same_in_every_process_and_follows_its_seed(tmp_path: Path) -> None:
    root = saved(tmp_path / "root", dtd(), "parquet")
    code = (
        "import sys, hashlib; from pathlib import Path\n"
        "from arc_train.tasks.catalog import catalog\n"
        "from arc_train.tasks.sources import open_source\n"
        "source = open_source(catalog()['vtab/dtd'], Path(sys.argv[1]))\n"
        "print(hashlib.sha256(source.chosen['train'][1].tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(root)]
    runs = {subprocess.run(command, capture_output=True, text=True).stdout for _ in range(2)}
    assert len(runs) == 1
    assert len(runs.pop().strip()) == 64
    first, again, other = (open_source(DTD, root, Draw(seed=seed)) for seed in (0, 0, 1))
    assert first.key() == again.key() != other.key()
    one, two = (prepare(DTD, root, 8, tmp_path / "cache", draw=Draw(seed=s)) for s in (0, 1))
    assert one.fingerprint != two.fingerprint


def test_splits_cut_from_one_share_no_image(tmp_path: Path) -> None:
    """resisc45 comes as one split: test, val and train are all drawn from it."""
    count = RESISC.test + 1000
    labels = [i % 45 for i in range(count)]
    thin = {"bytes": png(0), "path": None}
    whole = Dataset.from_dict({"image": [thin] * count, "label": labels}).cast(
        Features({"image": Image(), "label": ClassLabel(num_classes=45)})
    )
    root = tmp_path / "root"
    DatasetDict(train=whole).save_to_disk(str(place(root, "resisc45")))
    source = open_source(RESISC, root)
    assert isinstance(source, HubSource)
    rows = {name: set(found[1].tolist()) for name, found in source.chosen.items()}
    assert [len(rows[name]) for name in ("train", "val", "test")] == [800, 200, RESISC.test]
    assert len(set().union(*rows.values())) == count


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 60))
def test_a_stratified_draw_is_as_even_as_the_counts_allow(labels: list[int], count: int) -> None:
    found = np.array(labels)
    order = np.argsort(_turns(found), kind="stable")[:count]
    drawn, there = Counter(found[order].tolist()), Counter(labels)
    most = max(drawn.values())
    for label, number in there.items():
        assert drawn[label] >= min(number, most - 1)


@pytest.mark.parametrize(
    ("task", "objects", "labels"),
    [
        ("clevr_count", lambda i: [{"pixel_coords": [0.0, 0.0, 8.4]}] * (3 + i % 8), range(8)),
        ("clevr_dist", lambda i: [{"pixel_coords": [0.0, 0.0, 7.9 + i % 6 / 2]}] * 3, range(6)),
        ("kitti", lambda i: [{"location": [0.0, 0.0, 7.0 + i % 3 * 9], "type": 0}], range(3)),
    ],
)
def test_labels_are_derived_from_objects(
    tmp_path: Path, task: str, objects: Any, labels: range
) -> None:
    def part(count: int, start: int) -> Dataset:
        found = [objects(i) for i in range(count)]
        return split(count, 0, start, objects=found, label_count=[99] * count)

    found = DatasetDict(train=part(1000, 0), validation=part(200, 3000), test=part(48, 2000))
    found.save_to_disk(str(place(tmp_path, task)))
    source = open_source(catalog()[f"vtab/{task}"], tmp_path)
    assert source.labels("test").tolist() == [labels[i % len(labels)] for i in range(48)]


@pytest.mark.parametrize("column", ["label_x_position", "cls"])
def test_dsprites_bins_raw_positions_and_shows_masks(tmp_path: Path, column: str) -> None:
    task = catalog()["vtab/dsprites_loc"]
    mask = io.BytesIO()
    Pixels.fromarray(np.eye(8, dtype=np.uint8)).save(mask, "PNG")
    stored = [{"bytes": mask.getvalue(), "path": None}]

    def part(count: int) -> Dataset:
        rows = {"image": stored * count, column: [i % 32 for i in range(count)]}
        return Dataset.from_dict(rows).cast_column("image", Image())

    DatasetDict(train=part(1024), test=part(64)).save_to_disk(str(place(tmp_path, "dsprites_loc")))
    source = open_source(task, tmp_path)
    assert source.labels("test").tolist() == [i // 2 for i in range(32)] * 2
    image, _ = next(source.images("test"))
    assert sorted(Counter(np.asarray(image).ravel().tolist()).items()) == [(0, 168), (255, 24)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("test"), ["no split for test images", "found train, validation"]),
        (lambda d: d.update({k: v.rename_column("image", "picture") for k, v in d.items()}), []),
        (lambda d: d.update(train=split(900, 47, names=["a"] * 900)), ["is the label"]),
        (lambda d: d.update(train=split(900, 60)), ["label 47 is out of range", "train[47]"]),
        (lambda d: d.update(train=split(900, 47, label=[None] * 900)), ["train[0]", "label"]),
        (lambda d: d.pop("validation") and d.update(train=split(900, 47)), ["too few", "train"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, change: Any, says: list[str]) -> None:
    found = dtd()
    change(found)
    saved(tmp_path, found, "save_to_disk")
    if not says:  # the only column of images is taken, whatever its name
        assert open_source(DTD, tmp_path).size("test") == 94
        return
    with pytest.raises(InputError) as caught:
        open_source(DTD, tmp_path)
    for part in says:
        assert part in str(caught.value)


def test_webdataset_shards_are_read_as_the_hub_has_them(tmp_path: Path) -> None:
    """As clip-benchmark keeps VTAB: numbered shards of `key.webp` and `key.cls`."""
    folder = place(tmp_path, "eurosat")
    for part, count in (("train", 1000), ("test", 20)):
        for shard in range(2):
            path = folder / part / f"{shard}.tar"
            path.parent.mkdir(exist_ok=True)
            with tarfile.open(path, "w") as tar:
                for i in range(shard * count // 2, (shard + 1) * count // 2):
                    image = io.BytesIO()
                    Pixels.open(io.BytesIO(png(i + len(part)))).save(image, "WEBP", lossless=True)
                    for suffix, content in (("webp", image.getvalue()), ("cls", b"%d" % (i % 10))):
                        entry = tarfile.TarInfo(f"s{i:07}.{suffix}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    source = open_source(catalog()["vtab/eurosat"], tmp_path)
    assert [source.size(name) for name in ("train", "val", "test")] == [800, 200, 20]
    assert source.labels("test").tolist() == [i % 10 for i in range(20)]
    image, _ = next(source.images("test"))
    assert np.array_equal(np.asarray(image), np.asarray(Pixels.open(io.BytesIO(png(4)))))


def test_a_class_named_like_a_split_stays_in_its_own(tmp_path: Path) -> None:
    root = saved(tmp_path, dtd(), "imagefolder")
    for part in ("train", "validation", "test"):
        (root / "dtd" / part / "class046").rename(root / "dtd" / part / "train_railway")
    source = open_source(DTD, root)
    assert [source.size(name) for name in ("train", "val", "test")] == [800, 200, 94]
    assert sorted(set(source.labels("test").tolist())) == list(range(47))


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    found = dtd()
    rows = found["test"].cast_column("image", Image(decode=False)).to_list()
    rows[7]["image"] = {"bytes": rows[7]["image"]["bytes"][:40], "path": None}
    features = Features({"image": Image(), "label": ClassLabel(num_classes=47)})
    found["test"] = Dataset.from_list(rows, features=features)
    root = saved(tmp_path / "root", found, "save_to_disk")
    with pytest.raises(InputError, match=r"dtd: test\[7\]: can't read the image"):
        prepare(DTD, root, 8, tmp_path / "cache")
    assert any("test[7]" in fault for fault in check(DTD, root).faults)


def test_a_test_image_in_train_is_found(tmp_path: Path) -> None:
    found = dtd()
    found["test"] = split(94, 47, 0)  # the first images of train
    report = check(DTD, saved(tmp_path / "root", found, "parquet"))
    assert any("two splits" in fault for fault in report.faults)


def test_without_a_connection_the_hub_is_asked_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"can't load hub data set ikanher/dtd.*data prepare"):
        open_source(DTD, HUB)
    with pytest.raises(InputError, match="no copy on the hub is known"):
        open_source(catalog()["fgvc/nabirds"], HUB)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    place(tmp_path, "dtd").joinpath("train.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="can't load data set"):
        open_source(DTD, tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not beside the project")
def test_real_photographs_as_a_data_set(tmp_path: Path) -> None:
    """Caltech101 as webdataset users have it: the columns webp and cls."""
    folder, parts = SHARED / "caltech101", {}
    for name, lists in (("train", ("train800", "val200")), ("test", ("test",))):
        lines = [x.split() for n in lists for x in (folder / f"{n}.txt").read_text().splitlines()]
        stored = [{"bytes": (folder / path).read_bytes(), "path": None} for path, _ in lines]
        rows = {"webp": stored, "cls": [int(label) for _, label in lines]}
        features = Features({"webp": Image(), "cls": Value("int64")})
        parts[name] = Dataset.from_dict(rows, features=features)
    DatasetDict(parts).save_to_disk(str(place(tmp_path, "caltech101")))
    task = catalog()["vtab/caltech101"]
    source = open_source(task, tmp_path)
    assert [source.size(s) for s in ("train", "val", "test")] == [800, 200, 500]
    report = check(task, tmp_path)
    assert report.encodings == {"JPEG": 1500}
    assert not report.faults
    assert report.sizes == {"train": 800, "val": 200, "test": 500}

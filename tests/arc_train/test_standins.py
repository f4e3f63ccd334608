"""Stand-ins have a task's shape and can be learned; they never pass for the task."""

from pathlib import Path

import numpy as np
import pytest

from arc_train.errors import InputError
from arc_train.tasks.cache import prepare
from arc_train.tasks.catalog import catalog, groups
from arc_train.tasks.check import check
from arc_train.tasks.sources import STAND_INS, open_source
from arc_train.tasks.splits import SPLITS


@pytest.mark.parametrize("key", groups()["all"])
def test_every_task_has_one_with_its_classes_and_sizes(key: str) -> None:
    task = catalog()[key]
    source = open_source(task, STAND_INS)
    assert [source.size(split) for split in SPLITS] == [task.train, task.val, task.test]
    assert set(source.labels("test").tolist()) == set(range(task.classes))
    assert source.variant == "stand-in"


def test_few_of_them_still_show_every_class() -> None:
    for key, sizes in {"vtab/dtd": [300, 200, 300], "fgvc/nabirds": [555, 555, 555]}.items():
        source = open_source(catalog()[key], STAND_INS / "300")
        assert [source.size(split) for split in SPLITS] == sizes
        assert len(set(source.labels("train").tolist())) == catalog()[key].classes
        assert source.key() != open_source(catalog()[key], STAND_INS).key()
    for wrong in ("stand-ins/x", "stand-ins/0", "stand-ins/300/cifar"):
        with pytest.raises(InputError, match=f"data.root {wrong}: expected stand-ins"):
            open_source(catalog()["vtab/dtd"], Path(wrong))


@pytest.mark.parametrize("key", ["vtab/kitti", "fgvc/flowers"])
def test_they_are_deterministic_clean_and_learnable(key: str, tmp_path: Path) -> None:
    task = catalog()[key]
    report = check(task, STAND_INS)
    assert report.faults == []
    entry = prepare(task, STAND_INS, 16, tmp_path)
    assert (entry.variant, entry.fingerprint) == ("stand-in", report.fingerprint)
    train, train_labels = entry.load("train")
    test, test_labels = entry.open_test(lambda: None)
    flat, shown = (
        np.stack([image[:16, :16] for image in images]).reshape(len(images), -1).astype(float)
        for images in (train, test[:200])
    )
    centres = np.stack([flat[train_labels == k].mean(axis=0) for k in range(task.classes)])
    distances = (centres**2).sum(axis=1) - 2 * shown @ centres.T
    accuracy = (distances.argmin(axis=1) == test_labels[:200]).mean()
    assert accuracy > 2 / task.classes
    assert len({image.tobytes() for image in test}) == len(test)

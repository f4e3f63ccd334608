"""Two methods on the same test images: where they differ, and the pictures of it."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arc_train.tasks.cache import prepare
from arc_train.tasks.catalog import catalog
from arc_train.tasks.sources import open_source
from orchestrator.cli import main
from orchestrator.leaderboard.contrast import of_class
from orchestrator.store.result import DataInfo
from tests.finished import finished

DIGITS = catalog()["demo/digits"]
IMAGE = np.arange(300)
LABELS = IMAGE % 3


def compared(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    code = main(["compare", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_tasks_classes_and_images_on_which_two_methods_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """arc takes 1 for 2 under its second seed; lora takes the first 30 images of class 0 for 1."""
    arc = np.stack([LABELS, np.where(LABELS == 1, 2, LABELS)])
    lora = np.stack([np.where((LABELS == 0) & (IMAGE < 90), 1, LABELS)] * 2)
    answers = {"vtab/dtd": {"arc": arc, "lora": lora}, "vtab/dmlab": {"arc": arc}}
    folder = finished(tmp_path / "s", list(LABELS), answers, {"methods": ["arc", "lora"]})
    code, out, _ = compared(capsys, folder.path, "lora", "arc", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["methods"] == ["lora", "arc"]
    assert found["left_out"] == {"vtab/dmlab": "lora has 0 of 2 finals"}
    (task,) = found["tasks"]
    assert task["images"] == 300
    assert task["accuracy"] == pytest.approx([90, 100 - 100 / 6])
    assert task["only"] == pytest.approx([100 / 6, 10])
    assert task["pair"]["difference"] == pytest.approx(90 - 100 + 100 / 6)
    first, second, third = task["classes"]
    assert (first["label"], first["accuracy"], first["images"]) == (1, [100, 50], 100)
    assert first["mistaken"] == [None, [2, 50]]
    assert (second["label"], second["accuracy"]) == (0, [70, 100])
    assert second["mistaken"] == [[1, 30], None]
    assert second["p_corrected"] < 0.05
    assert third["p_corrected"] == 1
    mine, theirs = task["examples"]
    assert (task["examples_of"], mine, len(theirs)) == ([0, 30], [], 12)
    assert theirs[0] == {"place": 0, "label": 0, "answers": [[1, 0.75], [0, 0.75]]}
    code, out, _ = compared(capsys, folder.path, "arc", "lora")
    assert re.search(r"^dtd +300 +83\.3 +90\.0 +−6\.7 ±\d", out, re.MULTILINE)
    assert re.search(r"^dtd 1 +100 +50\.0 +100\.0 +−50\.0 .* 2 \(50 %\) +–", out, re.MULTILINE)


@given(st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_a_class_of_a_few_images_never_tells_methods_apart(
    images: int, seeds: int, random: Any
) -> None:
    a, b = (
        np.array([[random.random() < share for _ in range(images)] for _ in range(seeds)])
        for share in (0.9, 0.1)
    )
    assert of_class(a, b) >= 2 * 0.5**images
    assert of_class(a, b) == pytest.approx(of_class(b, a))


def digits(place: Path, wrong: int, fingerprint: str = "f", **spec: Any) -> Any:
    """A sweep on real images: linear has the first few wrong, each taken for the next class."""
    labels = open_source(DIGITS, None).labels("test")
    right = np.stack([labels, labels])
    taken = np.where(np.arange(len(labels)) < wrong, (labels + 1) % 10, labels)
    answers = {"demo/digits": {"arc": right, "linear": np.stack([taken, taken])}}
    data = DataInfo(variant="embedded", fingerprint=fingerprint, val_images=200)
    return finished(place, list(labels), answers, spec, data=data)


@pytest.mark.parametrize("where", ["in the cache", "drawn again"])
def test_pictures_are_the_images_and_their_opening_is_on_record(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, fingerprint = tmp_path / "cache", "f"
    if where == "in the cache":
        fingerprint = prepare(DIGITS, None, 32, cache).fingerprint
    folder = digits(tmp_path / "s", 3, fingerprint, data={"cache": str(cache)})
    page = tmp_path / "page.html"
    assert compared(capsys, folder.path, "arc", "linear", "--page", page)[0] == 0
    text = page.read_text()
    assert "Right by arc, wrong by linear <small>3 images under every seed</small>" in text
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"), float)
        for content in re.findall(r"data:image/webp;base64,([^\"]+)", text)
    ]
    source = open_source(DIGITS, None)
    for picture, (image, _) in zip(shown, source.images("test"), strict=False):
        exact = np.asarray(image.convert("L").resize(picture.shape[::-1]), float)
        assert np.abs(picture - exact).mean() < 12  # of 255: what compressing changes
    label = source.labels("test")[0]
    assert f"<p>{label}</p><p>linear: {(label + 1) % 10} (0.75)</p>" in text
    lines = [json.loads(line) for line in (folder.path / "test_access.jsonl").open()]
    assert [line["purpose"] for line in lines] == ["pictures"] * 2
    assert [line["study"] for line in lines] == ["tiny/arc/demo/digits", "tiny/linear/demo/digits"]


def test_no_test_image_is_opened_while_a_study_waits_for_finals_or_when_none_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = digits(tmp_path / "w", 3, methods=["arc", "linear", "lora"])
    page = tmp_path / "page.html"
    assert compared(capsys, waiting.path, "arc", "linear", "--page", page)[0] == 0
    assert "stays closed until tiny/lora have finals" in page.read_text()
    folder = digits(tmp_path / "s", 3)
    for words in (["--json"], ["--page", page, "--images", 0]):
        assert compared(capsys, folder.path, "arc", "linear", *words)[0] == 0
    assert "<img" not in page.read_text()
    for path in (waiting.path, folder.path):
        assert not (path / "test_access.jsonl").exists()


def test_without_images_the_page_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"vtab/dtd": {"arc": np.stack([LABELS]), "lora": np.stack([LABELS[::-1]])}}
    folder = finished(tmp_path / "s", list(LABELS), answers, {"data": {"root": str(tmp_path)}})
    page = tmp_path / "page.html"
    assert compared(capsys, folder.path, "arc", "lora", "--page", page)[0] == 0
    assert "No pictures: task vtab/dtd: no folder dtd" in page.read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["arc", "lora"], "no method lora in"),
        (["arc", "arc"], "arc can't be compared with itself"),
        (["arc", "linear", "--backbone", "vit"], "no backbone vit in"),
        (["arc", "linear", "--images", "-1"], "--images must be at least 0, found -1"),
        (["arc", "linear", "--page", "no/such/place.html"], "--page no/such/place.html: No such"),
    ],
)
def test_what_can_not_be_compared_is_told_in_a_line(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = digits(tmp_path / "s", 3)
    code, _, said = compared(capsys, folder.path, *words)
    assert (code, len(said.splitlines())) == (2, 1)
    assert reason in said


@pytest.mark.parametrize("fault", ["missing", "torn", "not a probability"])
def test_finals_without_sound_predictions_are_left_out(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = digits(tmp_path / "s", 3)
    for path in folder.predictions.iterdir():
        kept = folder.predictions_of(path.stem)
        assert kept
        if fault == "missing":
            path.unlink()
        elif fault == "torn":
            path.write_bytes(path.read_bytes()[:-99])
        else:
            path.write_bytes(replace(kept, confidence=kept.confidence * np.nan).to_bytes())
    code, _, said = compared(capsys, folder.path, "arc", "linear", "--json")
    assert code == 2
    reason = "demo/digits: arc has no predictions of all finals that can be read"
    assert f"no task to compare arc and linear on: {reason}" in said

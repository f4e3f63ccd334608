"""What finals answer is kept whole, and judged as torch would."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from arc_train.predictions import Predictions


def made(images: int = 50, classes: int = 7, most_bytes: int = 10**6) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(images, classes, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    return Predictions.of(logits, labels, most_bytes)


def test_measures_are_those_of_the_logits() -> None:
    found = made()
    assert found.logits is not None
    logits, labels = torch.tensor(found.logits).float(), torch.tensor(found.labels).long()
    assert found.accuracy == 100 * int((logits.argmax(1) == labels).sum()) / len(labels)
    assert found.loss.mean() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-2)
    recalls = [(logits.argmax(1) == labels)[labels == k].float().mean() for k in labels.unique()]
    assert found.balanced_accuracy == pytest.approx(100 * torch.stack(recalls).mean().item())


def test_a_model_that_is_as_right_as_it_is_sure_is_calibrated() -> None:
    sure = np.full(1000, 0.7, np.float32)
    labels = np.zeros(1000, np.int32)
    calm = Predictions(labels, (np.arange(1000) >= 700).astype(np.int32), sure, sure)
    assert calm.calibration_error() == pytest.approx(0, abs=1e-4)
    rash = Predictions(labels, labels + 1, sure, sure)
    assert rash.calibration_error() == pytest.approx(70, abs=1e-4)


def test_logits_are_kept_up_to_a_limit_and_files_come_back_as_written() -> None:
    for limit, kept in ((700, True), (699, False)):
        found = made(most_bytes=limit)
        assert (found.logits is not None) == kept
        again = Predictions.from_bytes(found.to_bytes())
        for name, value in vars(found).items():
            np.testing.assert_array_equal(getattr(again, name), value)


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_file_is_an_error_or_reads_as_written(place: int, byte: int) -> None:
    found = made()
    content = bytearray(found.to_bytes())
    content[place % len(content)] = byte
    try:
        again = Predictions.from_bytes(bytes(content))
    except ValueError:
        return
    np.testing.assert_array_equal(again.predicted, found.predicted)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_other_archives_are_no_predictions() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, labels=np.zeros(3), surplus=np.zeros(3))
    for content in (b"", b"text", buffer.getvalue(), buffer.getvalue()[:50]):
        with pytest.raises(ValueError, match="no predictions"):
            Predictions.from_bytes(content)

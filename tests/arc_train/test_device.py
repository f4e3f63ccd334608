"""Whoever was given a GPU trains on it or says in one line why it can't."""

import pytest
import torch

from arc_train.device import MPS, device_of, unusable
from arc_train.errors import InputError


def test_without_a_gpu_it_is_the_cpu() -> None:
    assert device_of(0) == torch.device("cpu")


@pytest.mark.parametrize("devices", ["", "-1"])
def test_a_gpu_that_the_environment_hides(devices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^torch can't use the GPU .* CUDA_VISIBLE_DEVICES hides"):
        device_of(0.5)


@pytest.mark.parametrize(
    "error", [RuntimeError("The driver is too\nold."), AssertionError("compiled without CUDA")]
)
def test_what_torch_says_is_passed_on_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise error

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    assert str(unusable()).endswith(f"says: {' '.join(str(error).split())}")


def test_apples_gpu_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(InputError, match="mps") as refused:
        device_of(1)
    assert MPS in str(refused.value)

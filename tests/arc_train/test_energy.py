"""A GPU's energy, on a stand-in of NVML: this needs no GPU."""

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from arc_train.energy import EnergyMeter

CARD = torch.device("cuda")


class NVMLError(Exception):
    pass


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the card's counter says next, in millijoules; empty: it has none."""
    counts: list[int] = []

    def handle(uuid: str) -> str:
        if uuid != "GPU-1234":
            raise NVMLError("Not Found")
        return uuid

    def total(card: str) -> int:
        if not counts:
            raise NVMLError("Not Supported")
        return counts.pop(0)

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=total,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    of_card = SimpleNamespace(uuid="1234")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: of_card)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: 1.0)
    return counts


def fail() -> None:
    raise NVMLError("Driver Not Loaded")


def test_joules_since_the_last_call(counts: list[int]) -> None:
    counts[:] = [5_000_000, 5_002_500, 5_003_000]
    meter = EnergyMeter(CARD)
    assert (meter.spent(), meter.spent()) == (2.5, 0.5)
    assert meter.spent() is None  # the counter is gone, and nothing after is a whole
    assert meter.spent() is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda patch: patch.setitem(sys.modules, "pynvml", None),
        lambda patch: patch.setattr(sys.modules["pynvml"], "nvmlInit", fail),
        lambda patch: patch.setattr(
            torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="part of one")
        ),
        lambda patch: patch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: 0.5),
    ],
    ids=["no library", "no driver", "MIG", "shared"],
)
def test_where_it_is_not_told_nothing_is_said(
    counts: list[int], monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    counts[:] = [1000, 2000]
    spoil(monkeypatch)
    assert EnergyMeter(CARD).spent() is None


def test_a_cpu_tells_nothing() -> None:
    assert EnergyMeter(torch.device("cpu")).spent() is None

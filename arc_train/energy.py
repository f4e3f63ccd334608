"""The energy that a GPU takes, as NVML counts it (nvmlDeviceGetTotalEnergyConsumption)."""

from collections.abc import Callable

import torch


class EnergyMeter:
    """Joules that a card took since it was last asked: all of it, whoever used it."""

    def __init__(self, device: torch.device) -> None:
        self._count = _counter(device)
        self._last = self._count() if self._count else None

    def spent(self) -> float | None:
        """Joules since the last call; None on a CPU, on a part of a GPU, and where none tells."""
        if self._count is None or self._last is None:
            return None
        last, self._last = self._last, self._count()
        return None if self._last is None else self._last - last


def _counter(device: torch.device) -> Callable[[], float | None] | None:
    """Reads a card's joules since its driver was loaded; None where it has no such counter."""
    if device.type != "cuda" or torch.cuda.get_per_process_memory_fraction() < 1:
        return None  # of a part of a GPU, others use the rest
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return None

    def count() -> float | None:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000
        except pynvml.NVMLError:
            return None

    return count

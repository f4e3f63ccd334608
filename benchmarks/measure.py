"""What benchmarks of packs share: trials, seconds of a call, a device's rate of matrix products."""

import time
from collections.abc import Callable

import torch

from arc_train.methods import METHODS
from arc_train.pack import Member

CLASSES = 100


def members(method: str, trials: int, **config: float) -> list[Member]:
    """Trials of mixed ranks; `config` is for all of them."""
    config = {"lr": 1e-3, "weight_decay": 0.01, **config}
    return [
        Member(
            str(i), config | ({"rank": (10, 25, 50)[i % 3]} if METHODS[method].ranked else {}), i
        )
        for i in range(trials)
    ]


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Of one call, everything it started on the device included."""
    _wait(device)
    begin = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - begin


def matmul_rate(device: torch.device) -> float:
    """FLOP/s of a plain product of large square matrices, in the precision of training."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    times = [seconds(lambda: a @ b, device) for _ in range(10)]
    return 2 * size**3 / min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()

"""The device that a process trains on, and why a GPU that is there may be of no use."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from arc_train.errors import InputError

_NVIDIA = Path("/proc/driver/nvidia/gpus")  # where NVIDIA's driver lists what there is
MPS = "Apple's mps has no 64-bit floats, in which losses are summed"


def device_of(gpus: float) -> torch.device:
    """The device of a process that was given so many GPUs, or a part of one.

    Raises:
        InputError: it was given some, and torch can't use them.
    """
    if gpus and (reason := unusable()):
        raise InputError(f"torch can't use the GPU of this machine: {reason}")
    return torch.device("cuda" if gpus else "cpu")


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU.

    Raises:
        InputError: an NVIDIA GPU is there, and torch can't use it.
    """
    return device_of(torch.cuda.is_available() or (_NVIDIA.is_dir() and not hidden()))


def unusable() -> str | None:
    """Why torch can't use a GPU in this process; None if it can."""
    if torch.cuda.is_available():
        return None
    if hidden():
        return "CUDA_VISIBLE_DEVICES hides it"
    if torch.backends.mps.is_available():
        return MPS
    start: Callable[[], None] = torch.cuda.init  # which has no types
    try:
        start()
    except (RuntimeError, AssertionError) as error:  # no driver, too old a one; built without CUDA
        return f"torch {torch.__version__} says: {' '.join(str(error).split())}"
    return "torch finds none"


def hidden() -> bool:
    """Whether this process's environment hides all GPUs from it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1", "NoDevFiles")

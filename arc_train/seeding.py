"""Every random draw has an address: (sweep seed, study, trial, purpose, ...) -> a generator."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*address: object) -> int:
    """A 32-bit seed that depends on every part of `address` and on nothing else."""
    text = "\x1f".join(str(part) for part in address)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def generator(*address: object) -> "torch.Generator":
    """A CPU generator for `address`: the same numbers whatever device the training runs on."""
    import torch

    return torch.Generator().manual_seed(seed_of(*address))

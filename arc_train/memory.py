"""How many trials fit: from the memory that a training step of one trial takes."""

from collections.abc import Callable

import torch
from torch import Tensor

# Bytes of activations that a pack may hold at a time on a CPU, whose memory others share.
CPU_BYTES = 4 << 30
# What activations may take of a GPU's free memory: evaluation and fragments need some, too.
SHARE = 0.8


def trials_that_fit(step: Callable[[int], object], device: torch.device, most: int) -> int:
    """How many trials, at least one and at most `most`, a step can hold.

    step: computes the gradients of its argument's number of trials and changes nothing.
    """
    if most == 1:
        return 1
    if device.type == "cuda":
        one, two = (_peak(step, trials) for trials in (1, 2))
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        fits = 1 + int((SHARE * free - one) // max(1, two - one))
    else:
        fits = CPU_BYTES // max(1, saved_bytes(lambda: step(1)))
    return max(1, min(most, fits))


def saved_bytes(step: Callable[[], object]) -> int:
    """Bytes of all tensors that autograd keeps for a backward pass, shared memory once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storages.values())


def _peak(step: Callable[[int], object], trials: int) -> int:
    """Bytes that a step takes at its peak beyond what is allocated before it, on a GPU."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(trials)
    return torch.cuda.max_memory_allocated() - before

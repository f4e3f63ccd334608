"""A device's memory: how much of a step fits into it, and how much was taken at most."""

from collections.abc import Callable

import torch
from torch import Tensor

# Bytes of activations that a pack may hold at a time on a CPU, whose memory others share.
CPU_BYTES = 4 << 30
# Images times trials in one pass of an evaluation on a CPU, which gains nothing from more.
CPU_PASS = 1024
# What activations may take of a GPU's free memory: fragments need some, too.
SHARE = 0.8
# A few images, whose evaluation tells what one takes.
FEW_IMAGES = 8


def take_share(gpus: float) -> None:
    """Limit this process to its share of a GPU, where it was given no more than a part of one."""
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)


class Memory:
    """What a pack takes of its device's memory, measured from here on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._earlier = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def peak(self) -> int | None:
        """The most bytes that were allocated at a time; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return max(self._earlier, torch.cuda.max_memory_allocated(self.device))

    def trials_that_fit(self, step: Callable[[int], object], most: int) -> int:
        """How many trials, at least one and at most `most`, a training step can hold.

        step: computes the gradients of its argument's number of trials and changes nothing.
        """
        if most == 1:
            return 1
        if self.device.type == "cuda":
            return self._fits(step, 1, most)
        return max(1, min(most, CPU_BYTES // max(1, saved_bytes(lambda: step(1)))))

    def images_that_fit(self, evaluate: Callable[[int], object], trials: int, most: int) -> int:
        """How many images, at least one and at most `most`, an evaluation's pass can hold.

        evaluate: computes the logits of its argument's number of images, of so many trials.
        """
        if self.device.type == "cuda":
            return self._fits(evaluate, min(most, FEW_IMAGES), most)
        return max(1, min(most, CPU_PASS // trials))

    def _fits(self, step: Callable[[int], object], few: int, most: int) -> int:
        """How many a step can hold, by what `few` of them take and twice as many, on a GPU."""
        one, two = (self._taken(step, count) for count in (few, 2 * few))
        beyond = (SHARE * self._free() - one) * few // max(1, two - one)
        return max(1, min(most, few + int(beyond)))

    def _taken(self, step: Callable[[int], object], count: int) -> int:
        """Bytes that a step takes at its peak beyond what is allocated before it."""
        self._earlier = self.peak or 0
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        step(count)
        return torch.cuda.max_memory_allocated(self.device) - before

    def _free(self) -> int:
        """Bytes that this process may still take, of its share of the card."""
        free, total = torch.cuda.mem_get_info(self.device)
        allocated = torch.cuda.memory_allocated(self.device)
        cached = torch.cuda.memory_reserved(self.device) - allocated
        share = int(torch.cuda.get_per_process_memory_fraction() * total)
        return min(free + cached, share - allocated)


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

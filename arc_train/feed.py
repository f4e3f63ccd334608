"""What feeds a run: batches in the order of each trial, from memory as near to the model as fits.

Where images don't change between epochs, what a method computes below its first trained layer is
computed once and kept. On a GPU a pack's images lie on the device as uint8, and orders and crops
are index tensors there, so that no step waits for the host. What doesn't fit is gathered on the
host as it is needed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from arc_train.seeding import generator
from arc_train.tasks.views import Split, gather

# Bytes of a split's images, or of what is kept of them, that a pack may hold on its device.
HELD = 4 << 30
EVAL_BATCH = 256


@dataclass(frozen=True)
class Images:
    """Turns gathered uint8 images into what the backbone expects, on its device."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [..., S, S, 3] -> float32 [..., 3, S, S], normalised."""
        pixels = images.to(self.device, non_blocking=True).movedim(-1, -3).float() / 255
        mean, std = self._statistics
        normalised: Tensor = (pixels - mean) / std
        return normalised

    @cached_property
    def _statistics(self) -> Tensor:
        """Mean and deviation [2, 3, 1, 1], sent to the device once."""
        return torch.tensor((self.mean, self.std), device=self.device).view(2, 3, 1, 1)


@dataclass(frozen=True)
class Batch:
    """inputs: images, or what is kept of them, [B, ...] shared by the trials or [T, B, ...];
    labels int64 [B] or [T, B]."""

    inputs: Tensor
    labels: Tensor


class Feed:
    """A split's batches.

    Args:
        frozen: what a method computes below its first trained layer, images -> tensor, or None if
            that is not worth keeping.
        again: whether the split is shown more than once, so that it pays to keep that.
    """

    def __init__(
        self,
        split: Split,
        prepare: Images,
        batch_size: int,
        frozen: Callable[[Tensor], Tensor] | None,
        again: bool = True,
    ) -> None:
        self.split = split
        self.steps = math.ceil(len(split) / batch_size)
        self._prepare, self._batch_size = prepare, batch_size
        self._frozen = frozen
        self._labels = split.labels.to(prepare.device)
        held = prepare.device.type != "cpu" and split.nbytes <= HELD
        # Where indices must lie: where the images do.
        self._at = prepare.device if held else torch.device("cpu")
        self._take = _held(split, prepare.device) if held else _from_host(split, prepare.device)
        self._keeps = again and frozen is not None and not split.cropped
        self._kept: Tensor | None = None

    def epoch(self, epoch: int, orders: Sequence[int]) -> Iterator[Batch]:
        """The batches of an epoch.

        orders: the address of each trial's order. The same for all, they share their batches.
        """
        seeds = orders[:1] if len(set(orders)) == 1 else orders
        drawn = {seed: self._draw(seed, epoch) for seed in dict.fromkeys(seeds)}
        index = torch.stack([drawn[seed][0] for seed in seeds])
        places = torch.stack([drawn[seed][1] for seed in seeds]) if self.split.cropped else None
        shared = len(seeds) == 1
        on_device = index.to(self._prepare.device)
        index = index.to(self._at)
        places = None if places is None else places.to(self._at)
        for step in range(self.steps):
            here = slice(step * self._batch_size, (step + 1) * self._batch_size)
            labels = self._labels[on_device[:, here]]
            if (kept := self._keep()) is not None:
                inputs = gather(kept, on_device[:, here])
            else:
                cut = None if places is None else places[:, here]
                inputs = self._prepare(self._take(index[:, here], cut))
                if self._frozen:
                    below = self._frozen(inputs.flatten(0, 1))
                    inputs = below.view(*labels.shape, *below.shape[1:])
            yield Batch(inputs[0], labels[0]) if shared else Batch(inputs, labels)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All of the split once, in order, shared by the trials; crops from the middle."""
        kept = self._keep()
        for index in torch.split(torch.arange(len(self.split)), batch_size):
            inputs = self._computed(index) if kept is None else kept[index.to(kept.device)]
            yield Batch(inputs, self._labels[index.to(self._prepare.device)])

    def _computed(self, index: Tensor) -> Tensor:
        """The inputs of some images [B], in order."""
        inputs = self._prepare(self._take(index[None].to(self._at), None))[0]
        return self._frozen(inputs) if self._frozen else inputs

    def _draw(self, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """An epoch's order [N] and, in that order, where each image is cropped [N, 3]."""
        count = len(self.split)
        order = torch.randperm(count, generator=generator(seed, "epoch", epoch))
        if not self.split.cropped:
            return order, torch.empty(0)
        return order, torch.rand(count, 3, generator=generator(seed, "crop", epoch))[order]

    def _keep(self) -> Tensor | None:
        """What is kept of all images [N, ...], computed at the first call; None if nothing is."""
        if self._keeps and self._kept is None:
            every = torch.arange(len(self.split))
            one = self._computed(every[:1])
            self._keeps = one.nbytes * len(every) <= HELD
            if self._keeps:
                kept = one.new_empty(len(every), *one.shape[1:])
                for index in torch.split(every, EVAL_BATCH):
                    kept[index[0] : index[-1] + 1] = self._computed(index)
                self._kept = kept
        return self._kept


Take = Callable[[Tensor, Tensor | None], Tensor]


def _held(split: Split, device: torch.device) -> Take:
    """(index [T, B], places [T, B, 3] or None) -> uint8 images [T, B, S, S, 3], all on a device."""
    if not isinstance(split.images, Tensor):
        return HeldCrops(split, device)
    images = split.images if split.rows is None else gather(split.images, split.rows)
    images = images.to(device)
    return lambda index, places: gather(images, index)


def _from_host(split: Split, device: torch.device) -> Take:
    """The same with indices on the host, where the images are gathered.

    For a GPU they are gathered into pinned memory, which torch reuses once a batch has arrived.
    """
    if device.type != "cuda":
        return split.batch
    side = split.images.shape[1] if isinstance(split.images, Tensor) else split.side

    def take(index: Tensor, places: Tensor | None) -> Tensor:
        shape = (*index.shape, side, side, 3)
        return split.batch(index, places, torch.empty(shape, dtype=torch.uint8, pin_memory=True))

    return take


class HeldCrops:
    """Images of varied shape as one row of pixels on a device; a crop is a gather of its pixels."""

    def __init__(self, split: Split, device: torch.device) -> None:
        assert not isinstance(split.images, Tensor)
        self.side, self.device = split.side, device
        shapes = torch.tensor([image.shape[:2] for image in split.images])
        sizes = shapes.prod(dim=1)
        self.shapes = shapes.to(device)
        self.starts = (sizes.cumsum(0) - sizes).to(device)
        self.pixels = torch.empty(int(sizes.sum()), 3, dtype=torch.uint8, device=device)
        for part, image in zip(torch.split(self.pixels, sizes.tolist()), split.images, strict=True):
            part.copy_(torch.from_numpy(image.copy()).view(-1, 3))

    def __call__(self, index: Tensor, places: Tensor | None) -> Tensor:
        """As `Split.batch`: uint8 [..., S, S, 3]."""
        height, width = self.shapes[index].unbind(-1)
        spare = torch.stack([height - self.side, width - self.side], dim=-1)
        at = torch.arange(self.side, device=self.device)
        columns = at.expand(*index.shape, -1)
        if places is None:
            corner = (spare.double() / 2).round().long()
        else:
            corner = (places[..., :2].double() * (spare + 1)).long()
            columns = torch.where(places[..., 2:] < 0.5, self.side - 1 - columns, columns)
        rows = (corner[..., :1] + at) * width[..., None]
        within = rows[..., :, None] + (corner[..., 1:] + columns)[..., None, :]
        return self.pixels[self.starts[index][..., None, None] + within]

"""One pack from its first epoch to its last: batches, schedule, rungs, halving, outcomes.

A run is advanced an epoch at a time and can be saved and continued between any two. Nothing it
draws depends on what ran before: the order of an epoch is a function of its address.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.pack import Member, Pack
from arc_train.seeding import generator
from arc_train.tasks.views import Split

EVAL_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """How every trial of a sweep is trained.

    Linear warm-up over `warmup_epochs`, then cosine to `final_lr` of each trial's lr, per step;
    global gradient norm clipped at `clip`. (The published code's first step has lr 0 and its last
    epoch ends a step early; here every step counts.)
    """

    epochs: int
    batch_size: int = 32
    warmup_epochs: float = 10
    final_lr: float = 1e-6
    clip: float = 1.0

    def lr_scale(self, step: int, steps: int) -> float:
        """Factor on the lr at a 0-based step out of `steps`."""
        warmup = round(steps * self.warmup_epochs / self.epochs)
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Halving:
    """Successive halving inside a pack: at epochs start, start*eta, ... only 1/eta go on."""

    start: int
    eta: int

    def rungs(self, epochs: int) -> list[int]:
        """The rungs before the last epoch."""
        rungs, rung = [], self.start
        while rung < epochs:
            rungs.append(rung)
            rung *= self.eta
        return rungs


@dataclass(frozen=True)
class Images:
    """Turns gathered uint8 images into what the backbone expects, on its device."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [..., S, S, 3] -> float32 [..., 3, S, S], normalised."""
        pixels = images.to(self.device, non_blocking=True).movedim(-1, -3).float() / 255
        mean = torch.tensor(self.mean, device=self.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(3, 1, 1)
        return (pixels - mean) / std


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Accuracies in percent; curve rows are (epoch, train loss, val loss, val accuracy).
    """

    id: str
    status: str
    epochs_run: int
    curve: list[list[float | None]]
    val_loss: float | None
    val_accuracy: float | None
    trainable_params: int
    adapter_params: int
    seconds: float
    note: str | None = None


class PackRun:
    """A pack in training.

    Args:
        order_seeds: the address of the batch order, one for each member. In a search they are
            all equal, so that trials see the same batches and the frozen layers below the first
            trained one run once for all; the seeds of a final differ in their order too.
        val: validation images, or None in a final, where every member runs to the end.
        halving: thins the pack at its rungs, by validation accuracy, then loss.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: str,
        num_classes: int,
        members: Sequence[Member],
        order_seeds: Sequence[int],
        recipe: Recipe,
        prepare: Images,
        train: Split,
        val: Split | None,
        halving: Halving | None = None,
        chunk: int = 16,
    ) -> None:
        self.recipe = recipe
        self.pack = Pack(backbone, method, num_classes, members, recipe.clip, chunk)
        self.rungs = halving.rungs(recipe.epochs) if halving and val is not None else []
        self.eta = halving.eta if halving else 1
        self.epoch = 0
        self.steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
        self._order_seeds = {m.id: seed for m, seed in zip(members, order_seeds, strict=True)}
        self._curves: dict[str, list[list[float | None]]] = {m.id: [] for m in members}
        self._seconds = dict.fromkeys(self._curves, 0.0)
        self._clock = time.perf_counter()
        self._prepare = prepare
        self._train, self._val = train, val
        # Without a trained layer below the head the features never change: computed once.
        self._features: Tensor | None = None

    @property
    def train_images(self) -> int:
        """Images a trial trains on in an epoch."""
        return len(self._train)

    def curve(self, trial: str) -> list[list[float | None]]:
        """A trial's rows so far: (epoch, train loss, val loss, val accuracy)."""
        return self._curves[trial]

    @property
    def done(self) -> bool:
        """Whether no trial is left in training."""
        return self.epoch >= self.recipe.epochs or not self.pack.members

    def run_epoch(self) -> list[Outcome]:
        """Train one epoch; at a rung or at the end validate. Returns the trials that ended.

        A trial that completes the last epoch stays in the pack, so that its weights can be read.
        """
        self._clock = time.perf_counter()
        outcomes: list[Outcome] = []
        totals = torch.zeros(len(self.pack.members), device=self.pack.device)
        orders = {seed: self._order(seed) for seed in set(self._order_seeds.values())}
        self._places = {seed: self._draw_places(seed) for seed in orders}
        for step in range(self.steps_per_epoch):
            inputs, labels = self._batch(orders, step)
            at = self.epoch * self.steps_per_epoch + step
            scale = self.recipe.lr_scale(at, self.recipe.epochs * self.steps_per_epoch)
            losses = self.pack.train_step(inputs, labels, scale)
            totals += losses * labels.shape[-1]
            finite = torch.isfinite(losses).tolist()
            if not all(finite):
                note = f"loss or gradient not finite at epoch {self.epoch + 1}, step {step + 1}"
                lost = {i: note for i, fine in enumerate(finite) if not fine}
                outcomes += self._end(lost, "diverged")
                totals = totals[torch.tensor(finite, device=totals.device)]
                if not self.pack.members:
                    return outcomes
        self.epoch += 1
        last = self.epoch == self.recipe.epochs
        validated = None
        if self._val is not None and (last or self.epoch in self.rungs):
            validated = self._evaluate(self._val)
            note = f"validation loss not finite at epoch {self.epoch}"
            lost = {i: note for i, (loss, _) in enumerate(validated) if not math.isfinite(loss)}
            outcomes += self._end(lost, "diverged")
            left = [i for i in range(len(validated)) if i not in lost]
            validated, totals = [validated[i] for i in left], totals[left]
        train_losses = (totals / len(self._train)).tolist()
        for i, member in enumerate(self.pack.members):
            val_loss, accuracy = validated[i] if validated else (None, None)
            self._curves[member.id].append([self.epoch, train_losses[i], val_loss, accuracy])
        self._share_time()
        if last:
            return outcomes + [self._outcome(i, "done") for i in range(len(self.pack.members))]
        if validated:
            outcomes += self._end(self._losers(validated), "stopped")
        return outcomes

    def test(self, split: Split) -> list[tuple[float, float]]:
        """(loss, accuracy in percent) of each remaining trial on a split."""
        return self._evaluate(split)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain values."""
        return {
            "pack": self.pack.state_dict(),
            "epoch": self.epoch,
            "curves": self._curves,
            "seconds": self._seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.pack.load_state_dict(state["pack"])
        self.epoch = state["epoch"]
        self._curves = {k: [list(row) for row in v] for k, v in state["curves"].items()}
        self._seconds = dict(state["seconds"])

    def _order(self, seed: int) -> Tensor:
        return torch.randperm(len(self._train), generator=generator(seed, "epoch", self.epoch))

    def _draw_places(self, seed: int) -> Tensor:
        """Where this epoch crops each training image [N, 3]."""
        if not self._train.cropped:
            return torch.empty(0)
        return torch.rand(len(self._train), 3, generator=generator(seed, "crop", self.epoch))

    def _batch(self, orders: Mapping[int, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a step: shared [B, ...] or, where orders differ, [T, B, ...]."""
        size = self.recipe.batch_size
        here = slice(step * size, (step + 1) * size)
        seeds = [self._order_seeds[member.id] for member in self.pack.members]
        places = None
        if len(set(seeds)) == 1:
            index = orders[seeds[0]][here]
            if self._train.cropped:
                places = self._places[seeds[0]][index]
        else:
            index = torch.stack([orders[seed][here] for seed in seeds])
            if self._train.cropped:
                places = torch.stack([self._places[seed][orders[seed][here]] for seed in seeds])
        labels = self._train.labels[index].to(self.pack.device)
        if not self.pack.head_only:
            return self._prepare(self._train.batch(index, places)), labels
        if self._train.cropped:  # epochs show other crops: nothing to keep
            images = self._prepare(self._train.batch(index, places))
            return self._pooled(images.flatten(0, -4)).view(*index.shape, -1), labels
        if self._features is None:
            self._features = self._frozen_features(self._train)
        return self._features[index.to(self.pack.device)], labels

    @torch.no_grad()
    def _pooled(self, images: Tensor) -> Tensor:
        """Pooled features [B, D] of prepared images, by the frozen backbone."""
        features: Tensor = self.pack.model.eval().features(images)
        return features

    def _frozen_features(self, split: Split) -> Tensor:
        """Pooled features [N, D] of a split, on the device."""
        return torch.cat([self._pooled(images) for images, _ in self._batches(split)])

    def _batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """A split in order: prepared images [B, 3, S, S] and labels [B]."""
        for index in torch.arange(len(split)).split(EVAL_BATCH):
            yield self._prepare(split.batch(index)), split.labels[index].to(self.pack.device)

    def _evaluate(self, split: Split) -> list[tuple[float, float]]:
        """(mean loss, accuracy in percent) of each member on a split."""
        count = len(self.pack.members)
        loss = torch.zeros(count, dtype=torch.float64, device=self.pack.device)
        right = torch.zeros(count, dtype=torch.int64, device=self.pack.device)
        for inputs, truth in self._batches(split):
            if self.pack.head_only:
                inputs = self._pooled(inputs)
            logits = self.pack.logits(inputs).float()
            targets = truth.expand(count, -1)
            loss += F.cross_entropy(logits.movedim(-1, 1), targets, reduction="none").sum(dim=1)
            right += (logits.argmax(dim=-1) == targets).sum(dim=1)
        losses, accuracies = loss / len(split), 100.0 * right / len(split)
        return list(zip(losses.tolist(), accuracies.tolist(), strict=True))

    def _losers(self, validated: Sequence[tuple[float, float]]) -> dict[int, str]:
        """All but the best 1/eta (at least one), with the bar that each missed.

        Higher accuracy is better, then lower loss, then the earlier place in the pack: a trial's
        id won't do, since it depends on the fingerprint of all images, those of test included.
        """
        count = len(validated)
        ranking = sorted(range(count), key=lambda i: (-validated[i][1], validated[i][0]))
        kept = max(1, count // self.eta)
        bar_loss, bar = validated[ranking[kept - 1]]
        notes = {}
        for place, i in enumerate(ranking[kept:], start=kept + 1):
            loss, accuracy = validated[i]
            notes[i] = (
                f"stopped at the rung of epoch {self.epoch}: place {place} of {count}, {kept} went "
                f"on; {accuracy:.1f} % against {bar:.1f} % of the last that went on"
            )
            if accuracy == bar:
                notes[i] += f", with a loss of {loss:.4g} against {bar_loss:.4g}"
        return notes

    def _end(self, notes: Mapping[int, str], status: str) -> list[Outcome]:
        """Take trials out of the pack; notes: index -> why."""
        if not notes:
            return []
        self._share_time()
        outcomes = [self._outcome(i, status, notes[i]) for i in sorted(notes)]
        self.pack.keep([i for i in range(len(self.pack.members)) if i not in notes])
        return outcomes

    def _share_time(self) -> None:
        """Charge the time since the last call to the members in equal parts."""
        now = time.perf_counter()
        for member in self.pack.members:
            self._seconds[member.id] += (now - self._clock) / len(self.pack.members)
        self._clock = now

    def _outcome(self, index: int, status: str, note: str | None = None) -> Outcome:
        trial = self.pack.members[index].id
        curve = self._curves[trial]
        _, _, val_loss, accuracy = curve[-1] if curve else (0, None, None, None)
        total, adapter = self.pack.trainable_params(index)
        return Outcome(
            id=trial,
            status=status,
            epochs_run=len(curve),
            curve=curve,
            val_loss=val_loss,
            val_accuracy=accuracy,
            trainable_params=total,
            adapter_params=adapter,
            seconds=round(self._seconds[trial], 3),
            note=note,
        )

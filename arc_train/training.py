"""One pack from its first epoch to its last: batches, schedule, rungs, halving, outcomes.

A run is advanced an epoch at a time and can be saved and continued between any two. Nothing it
draws depends on what ran before: the order of an epoch is a function of its address.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.costs import Costs
from arc_train.execution import Execution, Stepper
from arc_train.feed import EVAL_BATCH, Feed, Images
from arc_train.metrics import accuracy
from arc_train.outcome import CurveRow, Outcome
from arc_train.pack import Member, Pack
from arc_train.predictions import Predictions
from arc_train.recipe import Halving, Recipe
from arc_train.tasks.catalog import Metric
from arc_train.tasks.views import Split

T = TypeVar("T")


class PackRun:
    """A pack in training.

    Args:
        order_seeds: the address of the batch order, one for each member. In a search they are
            all equal, so that trials see the same batches and the frozen layers below the first
            trained one run once for all; the seeds of a final differ in their order too.
        val: validation images, or None in a final, where every member runs to the end.
        halving: thins the pack at its rungs, by validation accuracy, then loss.
        metric: what accuracies are.
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
        chunk: int | None = None,
        execution: Execution | None = None,
        metric: Metric = "accuracy",
    ) -> None:
        self._classes, self._metric = num_classes, metric
        self.pack = Pack(backbone, method, num_classes, members, recipe.clip, chunk, len(train))
        self.recipe = replace(recipe, epochs=1) if self.pack.method.solve else recipe
        self.rungs = halving.rungs(self.recipe.epochs) if halving and val is not None else []
        self.eta = halving.eta if halving else 1
        self.epoch = 0
        self._frozen = self.pack.method.trains != "blocks"
        self._train = self._feed(train, prepare)
        self._val = None if val is None else self._feed(val, prepare)
        self._prepare = prepare
        self._stepper = Stepper(self.pack, self._frozen, execution)
        self._order_seeds = {m.id: seed for m, seed in zip(members, order_seeds, strict=True)}
        self._curves: dict[str, list[CurveRow]] = {m.id: [] for m in members}
        self._costs = Costs(self._curves, self.pack.device)
        self._eval_batches: dict[int, int] = {}  # images in a pass, by trials

    def _feed(self, split: Split, prepare: Images, again: bool = True) -> Feed:
        frozen = self._below if self._frozen else None
        return Feed(split, prepare, self.recipe.batch_size, frozen, again)

    @torch.no_grad()
    def _below(self, images: Tensor) -> Tensor:
        return self.pack.model.eval().frozen(images)

    @property
    def train_images(self) -> int:
        """Images a trial trains on in an epoch."""
        return len(self._train.split)

    def curve(self, trial: str) -> list[CurveRow]:
        """A trial's rows so far."""
        return self._curves[trial]

    @property
    def done(self) -> bool:
        """Whether no trial is left in training."""
        return self.epoch >= self.recipe.epochs or not self.pack.members

    def run_epoch(self) -> list[Outcome]:
        """Train one epoch; at a rung or at the end validate. Returns the trials that ended.

        A trial that completes the last epoch stays in the pack, so that its weights can be read.
        """
        self._costs.restart()
        totals = self._solved() if self.pack.method.solve else self._steps()
        outcomes, totals = self._diverged(totals)
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
        train_losses = (totals / self.train_images).tolist()
        for i, member in enumerate(self.pack.members):
            val_loss, val_accuracy = validated[i] if validated else (None, None)
            row = CurveRow(self.epoch, train_losses[i], val_loss, val_accuracy)
            self._curves[member.id].append(row)
        self._share_costs()
        if last:
            return outcomes + [self._outcome(i, "done") for i in range(len(self.pack.members))]
        if validated:
            outcomes += self._end(self._losers(validated), "stopped")
        return outcomes

    def _steps(self) -> Tensor:
        """Train through an epoch's batches -> the sum of the losses of its images [T]."""
        steps = self._train.steps
        scales = [
            self.recipe.lr_scale(self.epoch * steps + step, self.recipe.epochs * steps)
            for step in range(steps)
        ]
        schedule = self.pack.schedule(scales)
        totals = torch.zeros(len(self.pack.members), device=self.pack.device)
        orders = [self._order_seeds[member.id] for member in self.pack.members]
        batches = self._train.epoch(self.epoch, orders)
        for batch, clock, seeds in zip(batches, schedule.clocks, schedule.seeds, strict=True):
            losses = self._stepper(batch.inputs, batch.labels, clock, seeds)
            totals += losses * batch.labels.shape[-1]
        return totals

    def _solved(self) -> Tensor:
        """Solve each trial on the features of all images -> the sum of its losses there [T]."""
        batches = list(self._train.in_order(EVAL_BATCH))
        features = torch.cat([batch.inputs for batch in batches])
        labels = torch.cat([batch.labels for batch in batches])
        self.pack.solve(features, labels, self._classes)
        losses = [loss for loss, _ in self._evaluate(self._train)]
        return torch.tensor(losses, device=self.pack.device) * self.train_images

    def predict(self, split: Split, most_bytes: int = 0) -> list[Predictions]:
        """What each remaining trial says of a split's images.

        most_bytes: logits are kept up to this size of each trial's.
        """
        feed = self._feed(split, self._prepare, again=False)
        return self._halving(feed, lambda size: self._predictions(feed, size, most_bytes))

    def predict_val(self) -> list[Predictions]:
        """What each remaining trial says of the validation images."""
        feed = self._val
        assert feed is not None  # a final has none
        return self._halving(feed, lambda size: self._predictions(feed, size, 0))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain values."""
        return {
            "pack": self.pack.state_dict(),
            "epoch": self.epoch,
            "curves": {k: [list(row) for row in rows] for k, rows in self._curves.items()},
            **self._costs.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it is of a version that laid out its tensors otherwise; nothing changed.
        """
        self.pack.load_state_dict(state["pack"])
        self.epoch = state["epoch"]
        self._curves = {k: [CurveRow(*row) for row in v] for k, v in state["curves"].items()}
        self._costs.load_state_dict(state)

    def _diverged(self, totals: Tensor) -> tuple[list[Outcome], Tensor]:
        """End the trials that diverged in this epoch; totals [T] -> of those that are left."""
        steps = self._train.steps
        notes = {
            i: "loss or gradient not finite at "
            f"epoch {self.epoch + 1}, step {step - self.epoch * steps}"
            for i, step in enumerate(self.pack.optimizer.failed.tolist())
            if step
        }
        left = [i for i in range(len(totals)) if i not in notes]
        return self._end(notes, "diverged"), totals[left]

    def _evaluate(self, feed: Feed) -> list[tuple[float, float]]:
        """(mean loss, accuracy in percent) of each member on a split."""
        return self._halving(feed, lambda size: self._evaluated(feed, size))

    def _halving(self, feed: Feed, evaluate: Callable[[int], T]) -> T:
        """Evaluate with batches of as many images as fit in memory."""
        trials = len(self.pack.members)
        while True:
            try:
                return evaluate(self._eval_batch(feed))
            except (torch.OutOfMemoryError, MemoryError):
                if self._eval_batches.get(trials) == 1:
                    raise
                self._eval_batches[trials] = self._eval_batches.get(trials, 2) // 2

    def _eval_batch(self, feed: Feed) -> int:
        """How many images pass through all members at a time."""

        def evaluate(images: int) -> None:
            self.pack.logits(next(feed.in_order(images)).inputs, self._frozen)

        trials = len(self.pack.members)
        if trials not in self._eval_batches:
            fits = self.pack.memory.images_that_fit(evaluate, trials, EVAL_BATCH)
            self._eval_batches[trials] = fits
        return self._eval_batches[trials]

    def _evaluated(self, feed: Feed, batch_size: int) -> list[tuple[float, float]]:
        count = len(self.pack.members)
        images = self._per_class(feed.split)
        loss = torch.zeros(count, dtype=torch.float64, device=self.pack.device)
        right = torch.zeros(count, len(images), dtype=torch.int64, device=self.pack.device)
        for batch in feed.in_order(batch_size):
            logits = self.pack.logits(batch.inputs, self._frozen)
            targets = batch.labels.expand(count, -1)
            loss += F.cross_entropy(logits.movedim(-1, 1), targets, reduction="none").sum(dim=1)
            hits = (logits.argmax(dim=-1) == targets).long()
            right.scatter_add_(1, targets, hits)
        losses = loss / len(feed.split)
        accuracies = accuracy(right, images, self._metric)
        return list(zip(losses.tolist(), accuracies.tolist(), strict=True))

    def _per_class(self, split: Split) -> Tensor:
        """How many images of each class a split has: int64 [K]."""
        return split.labels.bincount(minlength=self._classes).to(self.pack.device)

    def _predictions(self, feed: Feed, batch_size: int, most_bytes: int) -> list[Predictions]:
        logits, labels = [], []
        for batch in feed.in_order(min(batch_size, EVAL_BATCH)):
            logits.append(self.pack.logits(batch.inputs, self._frozen).cpu())
            labels.append(batch.labels.cpu())
        of_all = torch.cat(labels)
        return [Predictions.of(own, of_all, most_bytes) for own in torch.cat(logits, dim=1)]

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
        self._share_costs()
        outcomes = [self._outcome(i, status, notes[i]) for i in sorted(notes)]
        self.pack.keep([i for i in range(len(self.pack.members)) if i not in notes])
        return outcomes

    def _share_costs(self) -> None:
        self._costs.charge([member.id for member in self.pack.members])

    def _outcome(self, index: int, status: str, note: str | None = None) -> Outcome:
        trial = self.pack.members[index].id
        curve = self._curves[trial]
        last = curve[-1] if curve else CurveRow(0, None, None, None)
        total, adapter = self.pack.trainable_params(index)
        seconds, energy = self._costs.seconds(trial), self._costs.energy(trial)
        return Outcome(
            id=trial,
            status=status,
            epochs_run=len(curve),
            curve=tuple(curve),
            val_loss=last.val_loss,
            val_accuracy=last.val_accuracy,
            trainable_params=total,
            adapter_params=adapter,
            seconds=round(seconds, 3),
            images_per_second=len(curve) * self.train_images / max(1e-9, seconds),
            peak_memory=self.pack.memory.peak,
            energy=None if energy is None else round(energy, 1),
            execution=self._stepper.used,
            note=note,
        )

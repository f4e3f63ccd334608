"""`search`: a study's hyperparameters, in a notebook.

The same packs as in a sweep, and the same protocol: nothing but training and validation images is
seen, and the winner is the first by the rank of sweeps among the trials that reached the last
epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.errors import InputError
from arc_train.hyperparameters.ranking import rank
from arc_train.hyperparameters.searchers import Observation, Problem, portfolio
from arc_train.hyperparameters.space import Config, Space, size
from arc_train.methods import recommended
from arc_train.outcome import CurveRow, Outcome
from arc_train.pack import Member
from arc_train.packing import ROUNDS, proposals, split
from arc_train.recipe import HALVING
from arc_train.seeding import seed_of
from arc_train.study import Statistics, Study
from arc_train.study_result import Progress, Search, Trial
from arc_train.tasks.catalog import Augment, Resize
from arc_train.tasks.views import Split
from arc_train.trained import count, state_of
from arc_train.training import PackRun


def search(
    model: nn.Module,
    train: Any,
    val: Any,
    method: str = "arc",
    *,
    trials: int = 16,
    space: Mapping[str, Any] | None = None,
    epochs: int = 100,
    batch_size: int = 32,
    seed: int = 0,
    resize: Resize | None = None,
    augment: Augment = "none",
    num_classes: int | None = None,
    normalise: Statistics | None = None,
    allow_overlap: bool = False,
    device: str | torch.device | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Search:
    """Search a method's hyperparameters on training images, choosing by validation images.

    Trials race by successive halving: at a fifth of the epochs, and each time these have
    doubled, the better half goes on. Ctrl-C returns what is known so far.

    Args:
        model: a timm model, which stays as it is.
        train, val: data sets of (image, label), or pairs (images, labels); see
            `arc_train.tasks.in_memory.split_of`. Images are not normalised yet.
        space: changes of the method's recommended space, in the form of a sweep file, such as
            {"rank": [4, 8], "lr": {"log": [1e-3, 1e-1]}}.
        resize, augment: as of a task: squash or crop; none or crop+flip. Without resize, images
            must have the size that the model takes.
        num_classes: by default one more than the largest label.
        normalise: mean and std of pixels in 0..1 for each channel; by default the model's own.
        allow_overlap: whether images of val may stand in train too.
        device: by default the GPU where there is one.
        progress: is called after each epoch.

    Raises:
        InputError: a model, data or values that can't be used; the message says what to do.
    """
    study = Study(model, method, epochs, batch_size, resize, augment, normalise, device)
    if trials < 1:
        raise InputError(f"trials must be at least 1, found {trials}")
    searched = study.space(space or {})
    data = study.read({"train": train, "val": val}, num_classes, allow_overlap)
    return _Searching(study, data["train"], data["val"], searched, trials, seed, progress).run()


class _Searching:
    """A search under way."""

    def __init__(
        self,
        study: Study,
        train: Split,
        val: Split,
        space: Space,
        trials: int,
        seed: int,
        progress: Callable[[Progress], object] | None,
    ) -> None:
        self.study, self.train, self.val, self.seed = study, train, val, seed
        self.space = space
        self.budget = int(min(trials, size(space)))
        self.progress = progress
        self.ended: list[Trial] = []
        self.winner: tuple[Trial, Mapping[str, Tensor]] | None = None  # the best so far

    def run(self) -> Search:
        """Run to the end, or until Ctrl-C."""
        interrupted = False
        try:
            for number in proposals("portfolio", self.budget, ROUNDS):
                for configs in split(self._propose(number), self.study.pack_size):
                    self._run_pack(configs)
        except KeyboardInterrupt:
            interrupted = True
        trials = sorted(self.ended, key=_place)
        model = None
        if self.winner is not None:
            best, state = self.winner
            model = self.study.adapted(best.config, state)
        return Search(self.study.method, tuple(trials), len(self.val), interrupted, model)

    def _propose(self, number: int) -> list[Config]:
        ended_well = ("done", "stopped")
        own = [
            Observation(t.config, t.val_accuracy if t.status in ended_well else None)
            for t in self.ended
        ]
        first = recommended(self.study.method).first
        return portfolio(Problem(self.space, seed_of(self.seed, "configs"), first, own), number)

    def _run_pack(self, configs: Sequence[Config]) -> None:
        members = [
            Member(str(i), config, seed_of(self.seed, "search", sorted(config.items())))
            for i, config in enumerate(configs)
        ]
        orders = [seed_of(self.seed, "search order")] * len(members)
        start = max(1, self.study.recipe.epochs * HALVING.start // 100)
        halving = replace(HALVING, start=start)
        run = self.study.pack(members, orders, self.train, self.val, halving)
        missing = {member.id: member.config for member in members}
        try:
            while not run.done:
                for outcome in run.run_epoch():
                    self._end(_trial(missing[outcome.id], outcome), outcome.id, run)
                    del missing[outcome.id]
                self._tell(run)
        except KeyboardInterrupt:
            self.ended += [self._interrupted(missing[i], run.curve(i)) for i in missing]
            raise

    def _end(self, trial: Trial, member: str, run: PackRun) -> None:
        """Take in a trial; of the best one the trained tensors are kept."""
        if trial.status == "done" and (not self.winner or rank(trial) < rank(self.winner[0])):
            ids = [member.id for member in run.pack.members]
            self.winner = trial, run.pack.state(ids.index(member))
        self.ended.append(trial)

    def _interrupted(self, config: Config, curve: Sequence[CurveRow]) -> Trial:
        """A trial that was in training at Ctrl-C."""
        total, adapter = count(state_of(self.study.adapted(config).trained))
        last = next((row for row in reversed(curve) if row.val_accuracy is not None), None)
        return Trial(
            config,
            "interrupted",
            last.val_accuracy if last else None,
            last.val_loss if last else None,
            tuple(curve),
            total,
            adapter,
            0.0,
        )

    def _tell(self, run: PackRun) -> None:
        if self.progress is not None:
            alive = 0 if run.done else len(run.pack.members)
            epochs, ended = self.study.recipe.epochs, len(self.ended)
            best = self.winner[0] if self.winner else None
            self.progress(Progress(ended, self.budget, run.epoch, epochs, alive, best))


def _place(trial: Trial) -> tuple[Any, ...]:
    """Sorts trials: those that are done by their rank, then the others by how far they came."""
    if trial.status == "done":
        return 0, rank(trial)
    return 1, -trial.epochs_run, -(trial.val_accuracy or 0)


def _trial(config: Config, outcome: Outcome) -> Trial:
    return Trial(
        config,
        outcome.status,
        outcome.val_accuracy,
        outcome.val_loss,
        outcome.curve,
        outcome.trainable_params,
        outcome.adapter_params,
        outcome.seconds,
        outcome.note,
    )

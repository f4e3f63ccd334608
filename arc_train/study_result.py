"""What `search` and `finetune` return, as values."""

from dataclasses import dataclass, field
from statistics import fmean, stdev

from arc_train.adaptation import Adapted
from arc_train.errors import InputError
from arc_train.hyperparameters.space import Config, format_config
from arc_train.outcome import CurveRow

ROWS = 10  # trials that a search shows of itself


@dataclass(frozen=True)
class Trial:
    """A configuration, and how it did on the validation images.

    status: done, stopped (by a rung), diverged, or interrupted. Accuracy in percent; of a trial
    that was not trained to its last epoch it is that of its last rung. trainable_params: with the
    head; adapter_params: without. seconds: its share of its pack's time. note: why it ended early.
    """

    config: Config
    status: str
    val_accuracy: float | None
    val_loss: float | None
    curve: tuple[CurveRow, ...] = field(repr=False)
    trainable_params: int
    adapter_params: int
    seconds: float
    note: str | None = None

    @property
    def epochs_run(self) -> int:
        """Epochs that it was trained."""
        return len(self.curve)


@dataclass(frozen=True, repr=False)
class Search:
    """A search: its trials, the best first, then those that were not trained to the end.

    interrupted: by Ctrl-C; trials that were in training then have the status interrupted.
    val_images: how many the trials were compared on.
    """

    method: str
    trials: tuple[Trial, ...]
    val_images: int
    interrupted: bool
    winner: Adapted | None

    @property
    def best(self) -> Trial:
        """The winner, chosen by validation accuracy, then loss, then size.

        Raises:
            InputError: no trial was trained to its last epoch.
        """
        if not self.trials or self.trials[0].status != "done":
            raise InputError("no trial was trained to its last epoch, so none has won")
        return self.trials[0]

    @property
    def config(self) -> Config:
        """The winner's configuration.

        Raises:
            InputError: as `best`.
        """
        return self.best.config

    @property
    def model(self) -> Adapted:
        """The winner as a module, trained on the training images alone.

        Raises:
            InputError: as `best`.
        """
        if self.winner is None:
            raise InputError("no trial was trained to its last epoch, so there is no model")
        return self.winner

    def __repr__(self) -> str:
        done = sum(trial.status == "done" for trial in self.trials)
        lines = [
            f"{self.method}: {len(self.trials)} trials, {done} trained to the end, compared on "
            f"{self.val_images} validation images{', interrupted' * self.interrupted}"
        ]
        for trial in self.trials[:ROWS]:
            accuracy = "" if trial.val_accuracy is None else f"{trial.val_accuracy:.1f} %"
            lines.append(
                f"{accuracy:>8}  {trial.status:<11}  epoch {trial.epochs_run:>3}  "
                f"{format_config(trial.config)}"
            )
        if len(self.trials) > ROWS:
            lines.append(f"          and {len(self.trials) - ROWS} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Final:
    """One seed of a fine-tuning. Accuracy in percent; None where there was nothing to test on.

    status: done, or diverged, which leaves no model.
    """

    seed: int
    status: str
    test_accuracy: float | None
    test_loss: float | None
    curve: tuple[CurveRow, ...] = field(repr=False)
    model: Adapted | None = field(repr=False)


@dataclass(frozen=True, repr=False)
class Finetuned:
    """A configuration trained under some seeds, each tested once, after its last epoch.

    test_images: how many, 0 if there was nothing to test on.
    """

    method: str
    config: Config
    finals: tuple[Final, ...]
    train_images: int
    test_images: int
    trainable_params: int
    adapter_params: int

    @property
    def model(self) -> Adapted:
        """The module of the first seed.

        Raises:
            InputError: it diverged.
        """
        model = self.finals[0].model
        if model is None:
            raise InputError(f"the first seed diverged with {format_config(self.config)}")
        return model

    @property
    def test_accuracy(self) -> float | None:
        """Mean over the seeds that were tested, in percent."""
        return fmean(accuracies) if (accuracies := self._accuracies()) else None

    @property
    def test_std(self) -> float | None:
        """Standard deviation over seeds, with n - 1; None below two."""
        return stdev(accuracies) if len(accuracies := self._accuracies()) > 1 else None

    def _accuracies(self) -> list[float]:
        return [f.test_accuracy for f in self.finals if f.test_accuracy is not None]

    def __repr__(self) -> str:
        tested = "not tested"
        if self.test_accuracy is not None:
            spread = "" if self.test_std is None else f" ± {self.test_std:.1f}"
            tested = f"{self.test_accuracy:.1f}{spread} % of {self.test_images} test images"
        diverged = sum(final.status == "diverged" for final in self.finals)
        return (
            f"{self.method} ({format_config(self.config)}): {tested}, "
            f"{len(self.finals)} seed{'s' * (len(self.finals) > 1)}"
            f"{f', {diverged} diverged' if diverged else ''}, trained on {self.train_images} images"
        )


@dataclass(frozen=True)
class Progress:
    """Where a search or a fine-tuning is, after an epoch of a pack.

    ended, trials: how many have ended, of how many. alive: of the pack, in training. best: the
    best trial that ended so far.
    """

    ended: int
    trials: int
    epoch: int
    epochs: int
    alive: int
    best: Trial | None

    def __str__(self) -> str:
        text = f"{self.ended} of {self.trials} trials ended"
        if self.alive:
            text += f", {self.alive} in training: epoch {self.epoch} of {self.epochs}"
        if self.best is not None:
            text += f"; best {self.best.val_accuracy:.1f} %"
        return text

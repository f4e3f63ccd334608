"""Whole learning curves of studies in which no trial was stopped, and the files they are kept in.

benchmarks/record_curves.py records them, `arc-sweep replay` replays rules for stopping on them. No
sweep reads or writes them: their trials are tested, which the trials of a sweep's search never are.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arc_train.errors import InputError
from arc_train.hyperparameters.space import Config
from orchestrator.store.result import Study


@dataclass(frozen=True)
class Curves:
    """The trials of one study, T of them over E epochs, in the order in which they were proposed.

    rounds: how many trials each round of the search proposed. right: bool [T, E, N], whether a
    validation image was classified correctly after an epoch. losses, train_losses: float32 [T, E],
    mean cross-entropies in nats on validation and training images; of a trial that diverged NaN
    from that epoch on. test_accuracy: float32 [T], in percent, after the last epoch, or NaN.
    params: int64 [T], trained parameters. seconds: float32 [T], training and validation.
    """

    study: Study
    configs: tuple[Config, ...]
    rounds: tuple[int, ...]
    right: NDArray[np.bool_]
    losses: NDArray[np.float32]
    train_losses: NDArray[np.float32]
    test_accuracy: NDArray[np.float32]
    params: NDArray[np.int64]
    seconds: NDArray[np.float32]

    def write(self, path: Path) -> None:
        """As a compressed NumPy archive; a bit for each answer."""
        named: dict[str, object] = {
            "study": asdict(self.study),
            "configs": self.configs,
            "rounds": self.rounds,
        }
        named["images"] = self.right.shape[-1]
        arrays = {name: value for name, value in vars(self).items() if name not in named}
        arrays |= {"right": np.packbits(self.right, axis=-1), "named": np.array(json.dumps(named))}
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        partial.rename(path)

    @classmethod
    def read(cls, path: Path) -> "Curves":
        """What `write` made.

        Raises:
            InputError: the file can't be read, or is none of these.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            named = json.loads(str(arrays.pop("named")))
            right = np.unpackbits(arrays.pop("right"), axis=-1, count=named["images"]).astype(bool)
            study = Study(**named["study"])
            read = cls(study, tuple(named["configs"]), tuple(named["rounds"]), right, **arrays)
            read._check()
            return read
        except Exception as error:  # of NumPy's readers, zip's and zlib's
            raise InputError(
                f"{path}: no recorded curves, or damaged ({error}); "
                "benchmarks/record_curves.py records them"
            ) from error

    def _check(self) -> None:
        trials, epochs, _ = self.right.shape
        of_epochs = {self.losses.shape, self.train_losses.shape}
        of_trials = {self.test_accuracy.shape, self.params.shape, self.seconds.shape}
        if of_epochs != {(trials, epochs)} or of_trials != {(trials,)}:
            raise ValueError("its arrays are of other trials or epochs")
        if len(self.configs) != trials:
            raise ValueError(f"{len(self.configs)} configurations for {trials} trials")

    @classmethod
    def joined(cls, parts: Sequence["Curves"]) -> "Curves":
        """The rounds of a study as one."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("right", "losses", "train_losses", "test_accuracy", "params", "seconds")
        }
        configs = tuple(config for part in parts for config in part.configs)
        return cls(parts[0].study, configs, tuple(len(p.configs) for p in parts), **arrays)


@dataclass(frozen=True)
class Finished:
    """The same as rules see it: diverged trials are at 0 % and an infinite loss.

    right: as of the curves. accuracy, loss: float64 [T, E]. test: [T], of what diverged 0. order:
    the last part of the rank by which trials win, [T]: parameters, then lr.
    """

    right: NDArray[np.bool_]
    accuracy: NDArray[np.float64]
    loss: NDArray[np.float64]
    test: NDArray[np.float64]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, curves: Curves) -> "Finished":
        """From what was recorded."""
        diverged = np.isnan(curves.losses)
        lr = [float(config.get("lr", 0)) for config in curves.configs]
        return cls(
            curves.right & ~diverged[..., None],
            np.where(diverged, 0, 100 * curves.right.mean(axis=2)),
            np.where(diverged, np.inf, curves.losses),
            np.nan_to_num(curves.test_accuracy.astype(float)),
            np.argsort(np.lexsort((np.array(lr), curves.params))),
        )

    @property
    def epochs(self) -> int:
        """To the end."""
        return int(self.accuracy.shape[1])

    def ranking(self, trials: Sequence[int], epoch: int, count: int = 1) -> list[int]:
        """Some trials, the best first, by accuracy and then loss over the last `count` epochs."""
        last = slice(epoch - min(count, epoch), epoch)
        rows = np.asarray(trials)
        loss, accuracy = (of[rows, last].mean(axis=1) for of in (self.loss, self.accuracy))
        return [int(trial) for trial in rows[np.lexsort((loss, -accuracy))]]

    def rank(self, trial: int) -> tuple[float, float, int]:
        """By what a sweep ranks trials that reached the last epoch; the lowest wins."""
        return -self.accuracy[trial, -1], self.loss[trial, -1], self.order[trial]

    def chosen(self, trials: Sequence[int]) -> int:
        """The winner among trials that reached the last epoch, as a sweep chooses it."""
        return min(trials, key=self.rank)

    def gap(self, trials: Sequence[int], left: Sequence[int]) -> float:
        """Points of test accuracy lost where the winner is chosen among those left alone."""
        return float(self.test[self.chosen(trials)] - self.test[self.chosen(left)])

"""Whole learning curves of studies in which no trial was stopped, and the files they are kept in.

benchmarks/record_curves.py records them, benchmarks/stopping.py replays rules on them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arc_train.hyperparameters.space import Config
from orchestrator.store.result import Study


@dataclass(frozen=True)
class Curves:
    """The trials of one study, T of them over E epochs, in the order in which they were proposed.

    rounds: how many trials each round of the search proposed. right: bool [T, E, N], whether a
    validation image was classified correctly after an epoch. losses: float16 [T, E, N], its
    cross-entropy in nats. train_losses: float32 [T, E], means. Of a trial that diverged, losses are
    NaN from that epoch on. test_accuracy: float32 [T], in percent, after the last epoch, or NaN.
    params: int64 [T], trained parameters. seconds: float32 [T], training and validation.
    """

    study: Study
    configs: tuple[Config, ...]
    rounds: tuple[int, ...]
    right: NDArray[np.bool_]
    losses: NDArray[np.float16]
    train_losses: NDArray[np.float32]
    test_accuracy: NDArray[np.float32]
    params: NDArray[np.int64]
    seconds: NDArray[np.float32]

    def write(self, path: Path) -> None:
        """As a compressed NumPy archive; a bit for each answer."""
        named = {"study": asdict(self.study), "configs": self.configs, "rounds": self.rounds}
        arrays = {name: value for name, value in vars(self).items() if name not in named}
        arrays |= {"right": np.packbits(self.right, axis=-1), "named": np.array(json.dumps(named))}
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        partial.rename(path)

    @classmethod
    def read(cls, path: Path) -> "Curves":
        """What `write` made."""
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        named = json.loads(str(arrays.pop("named")))
        images = arrays["losses"].shape[-1]
        right = np.unpackbits(arrays.pop("right"), axis=-1, count=images).astype(bool)
        study = Study(**named["study"])
        return cls(study, tuple(named["configs"]), tuple(named["rounds"]), right, **arrays)

    @classmethod
    def joined(cls, parts: Sequence["Curves"]) -> "Curves":
        """The rounds of a study as one."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("right", "losses", "train_losses", "test_accuracy", "params", "seconds")
        }
        configs = tuple(config for part in parts for config in part.configs)
        return cls(parts[0].study, configs, tuple(len(p.configs) for p in parts), **arrays)

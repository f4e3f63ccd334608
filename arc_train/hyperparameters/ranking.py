"""The order in which trials win. It has no test accuracy to look at."""

import json
from typing import Protocol

from arc_train.hyperparameters.space import Config


class Validated(Protocol):
    """A trial that was trained to its last epoch and validated there, accuracy in percent."""

    @property
    def config(self) -> Config: ...
    @property
    def val_accuracy(self) -> float | None: ...
    @property
    def val_loss(self) -> float | None: ...
    @property
    def trainable_params(self) -> int | None: ...


def rank(trial: Validated) -> tuple[float, float, int, float, str]:
    """Sorts trials that are done, the best first.

    Highest validation accuracy; ties (200 images make many) go to the lower validation loss,
    then to fewer trainable parameters, then to the smaller lr where there is one, at last by the
    words: the order in which trials finished never matters.
    """
    accuracy, loss, params = trial.val_accuracy, trial.val_loss, trial.trainable_params
    assert accuracy is not None  # since it is done
    assert loss is not None
    assert params is not None
    return (
        -accuracy,
        loss,
        params,
        float(trial.config.get("lr", 0)),
        json.dumps(trial.config, sort_keys=True),
    )

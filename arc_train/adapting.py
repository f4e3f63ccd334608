"""What a method is given beside the backbone: where its tensors, its noise and T are kept."""

import torch

from arc_train.dropout import Noise, SeededDropout
from arc_train.trained import Trained
from arc_train.trials import Trials


class Adapting:
    """The parts that an adapted model shares with the modules of its method.

    generator, device: as `Trained`.
    """

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.trained = Trained(generator, device)
        self.trials = Trials()
        self.noise = Noise()
        self._dropouts = 0

    def dropout(self, rate: float) -> SeededDropout:
        """A dropout at a place of its own."""
        self._dropouts += 1
        return SeededDropout(rate, self.noise, self._dropouts)

"""What a method is given beside the backbone: where its tensors, its noise and T are kept."""

import torch

from arc_train.dropout import Noise, SeededDropout, SeededDropPath, SeededNormal
from arc_train.trained import Trained
from arc_train.trials import Trials


class Adapting:
    """The parts that an adapted model shares with the modules of its method.

    generator, device: as `Trained`. images: how many the model is trained on, for a method that
    keeps something of each.
    """

    def __init__(
        self, generator: torch.Generator | None, device: torch.device, images: int = 0
    ) -> None:
        self.images = images
        self.trained = Trained(generator, device)
        self.trials = Trials()
        self.noise = Noise()
        self._places = 0

    def dropout(self, rate: float) -> SeededDropout:
        """A dropout at a place of its own."""
        return SeededDropout(rate, self.noise, self._place())

    def drop_path(self, rate: float) -> SeededDropPath:
        """A dropout of whole images at a place of its own."""
        return SeededDropPath(rate, self.noise, self._place())

    def normal(self) -> SeededNormal:
        """Normal noise at a place of its own."""
        return SeededNormal(self.noise, self._place())

    def _place(self) -> int:
        self._places += 1
        return self._places

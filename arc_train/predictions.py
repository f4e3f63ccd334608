"""What a trained model says of each image of a split, and the file that it is kept in."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arc_train.tasks.catalog import Metric

if TYPE_CHECKING:  # whoever reads a leaderboard needs no torch
    from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """One model's answers, in the split's order of images.

    labels, predicted: class numbers [N]. confidence: probability of the predicted class [N].
    loss: cross-entropy in nats [N]. logits: float16 [N, K], or None where they were too large.
    """

    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    logits: NDArray[np.float16] | None = None

    @classmethod
    def of(cls, logits: "Tensor", labels: "Tensor", most_bytes: int) -> "Predictions":
        """From logits [N, K] and labels [N]; logits of more than `most_bytes` aren't kept."""
        exact = logits.float()
        confidence, predicted = exact.softmax(dim=1).max(dim=1)
        losses = -exact.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
        half = exact.clamp(-65504, 65504).half()
        return cls(
            labels.int().numpy(),
            predicted.int().numpy(),
            confidence.numpy(),
            losses.numpy(),
            half.numpy() if half.nbytes <= most_bytes else None,
        )

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly [N]."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100.0 * int(self.right.sum()) / len(self.labels)

    @property
    def balanced_accuracy(self) -> float:
        """Mean over classes of the accuracy within each, in percent."""
        classes = np.unique(self.labels)
        return float(100 * np.mean([self.right[self.labels == k].mean() for k in classes]))

    def score(self, metric: Metric) -> float:
        """The accuracy that a task is judged by, in percent."""
        return self.balanced_accuracy if metric == "balanced_accuracy" else self.accuracy

    def calibration_error(self, bins: int = 15) -> float:
        """ECE in % (Guo et al., ICML 2017, section 2): |confidence - accuracy| over equal bins."""
        place = np.minimum((self.confidence * bins).astype(int), bins - 1)
        gap = self.confidence.astype(np.float64) - self.right
        return float(100 * np.abs(np.bincount(place, gap, bins)).sum() / len(gap))

    def to_bytes(self) -> bytes:
        """As a compressed NumPy archive."""
        arrays = {name: value for name, value in vars(self).items() if value is not None}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Predictions":
        """What `to_bytes` made.

        Raises:
            ValueError: the content is something else, or torn.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                found = cls(**{name: archive[name] for name in archive.files})
        except Exception as error:  # a torn archive fails in as many ways as it has parts
            raise ValueError(f"no predictions: {error}") from error
        parts = (found.predicted, found.confidence, found.loss)
        if any(part.shape != found.labels.shape for part in parts) or found.labels.ndim != 1:
            raise ValueError("no predictions: their arrays have different lengths")
        return found

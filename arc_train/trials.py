"""The trial dimension. T trials of a pack pass through one plain model as one batch.

Tokens are [T*B, ..., D], trial-major: the first B rows belong to the first trial. Frozen layers see
a large batch and know of no trials. A trained tensor is [T, ...], and its layer views its input by
trial. A single model is T = 1 of the same code.
"""

from torch import Tensor


class Trials:
    """How many trials a pass computes.

    count: T. shared: whether the batch at hand is [B, ...] and still serves all trials. What lies
    below the first trained tensor is then computed once; the first trained layer widens the batch.
    """

    def __init__(self) -> None:
        self.count = 1
        self.shared = False

    def widen(self, x: Tensor) -> Tensor:
        """x [B, ...] -> [T*B, ...] while the batch is shared; later x as it is."""
        if self.shared:
            self.shared = False
            if self.count > 1:
                return x.expand(self.count, *x.shape).flatten(0, 1)
        return x


def by_trial(x: Tensor, trained: Tensor) -> Tensor:
    """x [T*B, ..., D] -> [T, rows, D] for a product with a trained tensor [T, ...], in its type."""
    return x.to(trained.dtype).reshape(trained.shape[0], -1, x.shape[-1])


def for_each_image(trained: Tensor, images: int) -> Tensor:
    """A trained tensor [T, ...] repeated for each of the T*B images: [T*B, ...]."""
    count = images // trained.shape[0]
    return trained[:, None].expand(-1, count, *trained.shape[1:]).flatten(0, 1)


def per_channel(trained: Tensor, rows: Tensor, behind: int) -> Tensor:
    """A trained tensor [T, C], shaped to act on the channels of rows [T, B, ..., C, ...].

    behind: how many axes follow the channels: 2 for what a convolution gives, else 0.
    """
    trials, channels = trained.shape
    return trained.view(trials, *(1,) * (rows.ndim - 2 - behind), channels, *(1,) * behind)

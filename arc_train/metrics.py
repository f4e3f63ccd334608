"""What accuracies are: over images, or the mean over classes."""

from torch import Tensor

from arc_train.tasks.catalog import Metric


def accuracy(right: Tensor, images: Tensor, metric: Metric) -> Tensor:
    """Accuracies in percent [T].

    right: int64 [T, K], each trial's images of each class that it has right. images: int64 [K], how
    many there are. Balanced: the mean over classes that occur, so that rare ones count as much.
    """
    if metric == "accuracy":
        return 100.0 * right.sum(dim=1) / images.sum()
    occurs = images > 0
    return (100.0 * right[:, occurs].double() / images[occurs]).mean(dim=1)

"""The leaderboard as values, and the plain data that leaderboard.json holds.

docs/result-format.md describes the file, field by field.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from arc_train.hyperparameters.space import Config
from orchestrator.leaderboard.means import mean_names
from orchestrator.leaderboard.paired import Pair
from orchestrator.leaderboard.published import Disagreement
from orchestrator.store.result import Study

Interval = tuple[float, float]


def line_name(method: str, sweep: str) -> str:
    """The name of a method's line in a table of several sweeps."""
    return f"{method} ({sweep})"


def method_of(line: str) -> str:
    """The method that a line is of."""
    return line.partition(" (")[0]


@dataclass(frozen=True, slots=True)
class Protocol:
    """What finals are made under.

    final_on: the splits that they train on; None where spec.yaml is missing.
    """

    final_on: str | None
    leak_meter: bool
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Test accuracy in percent over a study's finals; `seeds` has one value for each seed.

    std: sample standard deviation. ci95: 95 % interval of the mean. Both are None for one seed.
    """

    mean: float
    std: float | None
    n: int
    seeds: tuple[float, ...]
    ci95: Interval | None


@dataclass(frozen=True, slots=True)
class Ties:
    """How many other trials the validation images can hardly tell from the winner.

    standard_error: of the winner's accuracy, binomial over the validation images, in points.
    within_one_se: others, stopped ones included, last validated at most that far below the winner.
    tied_at_top: others trained to the end with the very same accuracy.
    """

    standard_error: float
    within_one_se: int
    tied_at_top: int


@dataclass(frozen=True, slots=True)
class BestOnTest:
    """What each final's best epoch on test would have claimed, in percent.

    epochs: the first best epoch of each seed. gap: mean of best epoch minus last epoch.
    """

    mean: float
    std: float | None
    n: int
    epochs: tuple[int, ...]
    gap: float


@dataclass(frozen=True, slots=True)
class MeanBestOnTest:
    """The same over tasks."""

    mean: float
    gap: float
    n_tasks: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What the finals' predictions say beside accuracy: means over the n finals that kept them.

    balanced_accuracy, ece: in percent. nll: cross-entropy of the test images in nats.
    """

    balanced_accuracy: float
    ece: float
    nll: float
    n: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a final cost: means over the finals, each with its share of its pack.

    images_per_second: trained on. peak_memory: the most bytes that their pack held on its GPU, and
    energy: in joules; both None where that isn't told, as on a CPU.
    """

    seconds: float
    images_per_second: float
    peak_memory: int | None
    energy: float | None


@dataclass(frozen=True, slots=True)
class Reference:
    """An accuracy that others printed; difference: ours minus it, in points.

    same_weights: whether it is of our pretrained weights; None where that can't be told.
    """

    accuracy: float
    difference: float | None
    name: str
    protocol: str
    weights: str
    same_weights: bool | None
    source: str
    note: str | None
    best_epoch_on_test: float | None = None
    params_mean: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One study: its winner, and the winner's finals.

    metric, class_names: of a user's own task, what its accuracies are, and its classes in order.
    best: whether no method is better on this task and backbone. ties_with_best: whether it can't
    be told from the best, by the same test images (paired.py) or else by intervals over seeds; None
    where neither can say. sweep: whose study it is, in a table of several sweeps.
    """

    backbone: str
    method: str
    task: str
    group: str
    test_accuracy: Spread | None
    val_accuracy: float | None
    ties: Ties | None
    config: Config | None
    trainable_params: int | None
    adapter_params: int | None
    trials: int
    statuses: Mapping[str, int]
    seconds: float
    variants: tuple[str, ...]
    metric: str | None = None
    class_names: tuple[str, ...] = ()
    published: Reference | None = None
    retuned: Reference | None = None
    best_on_test: BestOnTest | None = None
    best: bool = False
    ties_with_best: bool | None = None
    quality: Quality | None = None
    sweep: str | None = None
    cost: Cost | None = None

    @property
    def benchmark(self) -> str:
        """What its task is a part of: vtab, fgvc, demo, or the group of a user's own."""
        return self.task.split("/")[0] if "/" in self.task else self.group

    @property
    def study(self) -> Study:
        """The study that the row is of."""
        return Study(self.backbone, self.method, self.task)


@dataclass(frozen=True, slots=True)
class Mean:
    """Means of one method on one backbone.

    averages, ci95, best, ties_with_best, published and retuned go by the name of each mean.
    n_tasks: tasks with a result, of n_expected. n_by_group: the former by group.
    """

    backbone: str
    method: str
    averages: Mapping[str, float | None]
    ci95: Mapping[str, Interval | None]
    params_mean: float | None
    n_tasks: int
    n_expected: int
    n_by_group: Mapping[str, int]
    published: Mapping[str, Reference] | None = None
    retuned: Mapping[str, Reference] | None = None
    best_on_test: MeanBestOnTest | None = None
    best: Mapping[str, bool] = field(default_factory=dict)
    ties_with_best: Mapping[str, bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard of a sweep, or of several.

    unreadable: what is wrong with files that are left aside. differences: in how several sweeps
    were searched and trained.
    """

    sweep: str
    protocol: Protocol
    rows: tuple[Row, ...]
    means: tuple[Mean, ...]
    published_disagreements: tuple[Disagreement, ...] = ()
    unreadable: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def mean_names(self) -> tuple[str, ...]:
        """The names of its means."""
        return mean_names(row.group for row in self.rows)


def plain_board(board: Board) -> dict[str, Any]:
    """The content of leaderboard.json; pairs are there where finals kept their predictions."""
    return {
        "sweep": board.sweep,
        "protocol": asdict(board.protocol),
        "rows": [_plain_row(row) for row in board.rows],
        "means": [_plain_mean(mean) for mean in board.means],
        "published_disagreements": [
            {**asdict(wrong), "by_rounding": wrong.by_rounding}
            for wrong in board.published_disagreements
        ],
        **({"pairs": [asdict(pair) for pair in board.pairs]} if board.pairs else {}),
        **({"differences": list(board.differences)} if board.differences else {}),
        **({"unreadable": list(board.unreadable)} if board.unreadable else {}),
    }


def plain_reference(reference: Reference | None) -> dict[str, Any] | None:
    """A printed figure as plain data; what few sources have is there only where it is known."""
    if reference is None:
        return None
    rare = ("best_epoch_on_test", "params_mean")
    return {k: v for k, v in asdict(reference).items() if k not in rare or v is not None}


def _plain_row(row: Row) -> dict[str, Any]:
    content = asdict(row) | {
        "published": plain_reference(row.published),
        "retuned": plain_reference(row.retuned),
    }
    # Of a user's own task; of finals that kept their predictions; of several sweeps; of newer code.
    for name in ("metric", "class_names", "quality", "sweep", "cost"):
        if not content[name]:
            del content[name]
    return content


def _plain_mean(mean: Mean) -> dict[str, Any]:
    content: dict[str, Any] = {"backbone": mean.backbone, "method": mean.method, **mean.averages}
    content |= {name: value for name, value in asdict(mean).items() if name != "averages"}
    for name, references in (("published", mean.published), ("retuned", mean.retuned)):
        content[name] = references and {key: plain_reference(r) for key, r in references.items()}
    return content

"""A trial's result: the value that all code works with, and the JSON file that it is kept in.

docs/result-format.md describes the file, field by field.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from arc_train.hyperparameters.space import Config
from arc_train.outcome import CurveRow
from orchestrator.store import record
from orchestrator.store.record import STRICT, VERSION

Kind = Literal["search", "final"]
Status = Literal["done", "stopped", "diverged", "failed"]


@dataclass(frozen=True, order=True, slots=True)
class Study:
    """One hyperparameter-search problem."""

    backbone: str
    method: str
    task: str

    def __str__(self) -> str:
        return f"{self.backbone}/{self.method}/{self.task}"


class MeterRow(NamedTuple):
    """What the leak meter saw of a final after one epoch: test accuracy in percent."""

    epoch: int
    accuracy: float


Curve = tuple[CurveRow, ...]
TestCurve = tuple[MeterRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """Which images a trial saw.

    variant: the layout they were read from. split: official, lists, given or drawn. fingerprint: of
    all images and labels. val_images: how many a search validated on. metric, class_names: of a
    user's own task, what accuracies are, and (in finals) its classes in order. limit: of a user's
    own task, how many training images its search was to draw.
    """

    __pydantic_config__ = STRICT

    variant: str | None
    split: str | None = None
    fingerprint: str
    transform: str | None = None
    normalise: str | None = None
    val_images: int | None = None
    metric: str | None = None
    class_names: tuple[str, ...] | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """Which code trained a trial.

    git: the commit, None outside a checkout. method: 16 hex digits of the source of a method that
    is the user's own.
    """

    __pydantic_config__ = STRICT

    version: str
    git: str | None
    method: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """Which weights the backbone had, and what its inputs were normalised with.

    source, revision, sha256: as arc_train.backbones.Weights. mean, std: of pixels in 0..1.
    """

    __pydantic_config__ = STRICT

    source: str
    revision: str | None
    sha256: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TrialInfo:
    """What is known of a trial before it is trained."""

    __pydantic_config__ = STRICT

    id: str
    kind: Kind
    backbone: str
    method: str
    task: str
    config: Config
    seed: int

    @property
    def study(self) -> Study:
        """The study that the trial belongs to."""
        return Study(self.backbone, self.method, self.task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(TrialInfo):
    """How a trial ended.

    Accuracies in percent, losses as means over images, seconds of its worker. note: why it ended
    early. execution: how training steps ran: eager, compiled or graph. images_per_second: trained
    on, in the trial's share of its pack's time. peak_memory: of the pack on its GPU, in bytes.
    energy: that the GPU took, the trial's share, in joules; None where it doesn't tell.
    test_curve: of finals under the leak meter, a row for each epoch. What files of version 1 lack
    is None.
    """

    epochs_run: int
    status: Status
    note: str | None = None
    val_accuracy: float | None
    val_loss: float | None
    test_accuracy: float | None
    trainable_params: int | None
    adapter_params: int | None
    curve: Curve
    seconds: float
    data: DataInfo
    code: CodeInfo
    packages: Mapping[str, str]
    device: str | None
    weights: WeightsInfo | None = None
    execution: str | None = None
    images_per_second: float | None = None
    peak_memory: int | None = None
    energy: float | None = None
    test_curve: TestCurve | None = None
    version: int = field(default=VERSION)

    def __post_init__(self) -> None:
        """A trial that is done has what it is judged by.

        Raises:
            ValueError: it lacks an accuracy, a loss or its number of parameters.
        """
        if self.status != "done":
            return
        judged_by = ("val_accuracy", "val_loss") if self.kind == "search" else ("test_accuracy",)
        for name in (*judged_by, "trainable_params", "adapter_params"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is null, of a {self.kind} trial that is done")


def by_study(results: Iterable[Result]) -> dict[Study, list[Result]]:
    """The results of each study, in their order."""
    found: dict[Study, list[Result]] = {}
    for result in results:
        found.setdefault(result.study, []).append(result)
    return found


_RESULT = TypeAdapter(Result)


def read_result(path: Path) -> Result:
    """The result in a file, of any version.

    Raises:
        Unreadable: the file holds no result; names the key.
    """
    return record.read(_RESULT, path, "trial result")


def plain_result(result: Result) -> dict[str, Any]:
    """A result as the plain data of its file."""
    content = record.plain(_RESULT, result)
    for name in ("energy", "test_curve"):
        if content[name] is None:
            del content[name]
    for name in ("metric", "class_names", "limit"):
        if content["data"][name] is None:
            del content["data"][name]
    return content


def result_text(result: Result) -> str:
    """The text of a result's file.

    Raises:
        ValueError: a number that isn't finite.
    """
    return record.text(plain_result(result))

"""Two methods on the same test images: on which tasks, classes and images they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arc_train.predictions import Predictions
from orchestrator.leaderboard.board import Board
from orchestrator.leaderboard.evidence import measurable
from orchestrator.leaderboard.paired import TASK, Pair, Right, holm, of_finals, sign_test
from orchestrator.leaderboard.source import Source
from orchestrator.leaderboard.tested import tested_of
from orchestrator.store.result import Result, Study

Both = tuple[float, float]  # of the first method and of the second
HOW = (
    "Test accuracy over images in %, ± half the 95 % interval of a difference. p: of no "
    "difference, on a task corrected for all pairs of methods (Holm), on a class for all classes "
    "of the task. only: % of images that one method alone has right, drawing a seed of each. says: "
    "what it answers most often where it is wrong, and on how many of the class's images."
)


class Answer(NamedTuple):
    """A class that a method answers, and the share of answers in % or its confidence in [0, 1]."""

    label: int
    share: float


@dataclass(frozen=True, slots=True)
class ClassContrast:
    """Two methods on the test images of one class.

    accuracy: in %, means over seeds. p_corrected: two-sided, of no difference, by Holm over the
    task's classes. mistaken: what each method answers most often where it is wrong.
    """

    label: int
    images: int
    accuracy: Both
    p_corrected: float
    mistaken: tuple[Answer | None, Answer | None]

    @property
    def difference(self) -> float:
        """The first method's accuracy minus the second's, in points."""
        return self.accuracy[0] - self.accuracy[1]


@dataclass(frozen=True, slots=True)
class Example:
    """A test image that one method has right under every seed, the other under none.

    place: in the test split. answers: of each method, the most frequent one, with its confidence.
    """

    place: int
    label: int
    answers: tuple[Answer, Answer]


@dataclass(frozen=True, slots=True)
class TaskContrast:
    """Two methods on the test images of one task.

    fingerprint: of the images. trials: ids of both methods' finals. accuracy: in %, over images.
    only: the share of images that one of them alone has right, drawing a seed of each, in %.
    pair: the leaderboard's comparison; None where it has none. classes: those that move most images
    first. examples: for each method the images that it alone has right, those first where the other
    is most sure; examples_of: how many there are.
    """

    task: str
    fingerprint: str
    trials: tuple[str, ...]
    labels: NDArray[np.int32]
    accuracy: Both
    only: Both
    pair: Pair | None
    classes: tuple[ClassContrast, ...]
    examples: tuple[tuple[Example, ...], tuple[Example, ...]]
    examples_of: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two methods on one backbone; left_out: task -> why it can't be compared."""

    backbone: str
    methods: tuple[str, str]
    seeds: tuple[int, ...]
    tasks: tuple[TaskContrast, ...]
    left_out: Mapping[str, str]


def plain_contrast(found: Contrast) -> dict[str, Any]:
    """A comparison as plain data, for `--json`."""
    content = asdict(found)
    for task in content["tasks"]:
        task["images"] = len(task.pop("labels"))
    return content


def class_name(names: Sequence[str], label: int) -> str:
    """How a class is called: by its number, where names aren't known."""
    return names[label] if 0 <= label < len(names) else str(label)


def contrast(
    source: Source, board: Board, backbone: str, methods: tuple[str, str], most: int
) -> Contrast:
    """How two methods differ on each task that both were tested on.

    most: how many examples there are at most for each method and task.
    """
    tasks, left_out = [], {}
    pairs = {(p.task, p.methods): p for p in board.pairs if p.scope == TASK}
    for task in dict.fromkeys(s.task for s in source.studies if s.backbone == backbone):
        finals = [_finals(source, Study(backbone, method, task)) for method in methods]
        if reason := _incomparable(source, finals, methods):
            left_out[task] = reason
            continue
        found = _on_task(source, finals, most)
        pair = pairs.get((task, methods))
        turned = pairs.get((task, methods[::-1]))
        tasks.append(replace(found, pair=pair or (_turned(turned) if turned else None)))
    return Contrast(backbone, methods, source.protocol.seeds, tuple(tasks), left_out)


def _finals(source: Source, study: Study) -> list[Result]:
    results = [result for result in source.results if result.study == study]
    return tested_of(results, source.protocol.seeds)


def _incomparable(
    source: Source, finals: Sequence[Sequence[Result]], methods: tuple[str, str]
) -> str | None:
    """Why the finals of two studies can't be compared image by image."""
    kept = []
    for method, results in zip(methods, finals, strict=True):
        if len(results) < len(source.protocol.seeds):
            return f"{method} has {len(results)} of {len(source.protocol.seeds)} finals"
        known = [source.predictions[r.id] for r in results if r.id in source.predictions]
        if len(known) < len(results) or not all(map(measurable, known)):
            return f"{method} has no predictions of all finals that can be read"
        kept += known
    prints = {result.data.fingerprint for results in finals for result in results}
    if len(prints) > 1 or any(not np.array_equal(kept[0].labels, p.labels) for p in kept):
        return "their finals were tested on different images"
    return None


def _on_task(source: Source, finals: Sequence[Sequence[Result]], most: int) -> TaskContrast:
    first = finals[0][0]
    answers = [[source.predictions[r.id] for r in results] for results in finals]
    labels = answers[0][0].labels
    right = [np.stack([answer.right for answer in each]) for each in answers]
    share = [r.mean(axis=0) for r in right]  # of seeds that have an image right
    chosen, counts = [], []
    for side in (0, 1):
        places = np.flatnonzero((share[side] == 1) & (share[1 - side] == 0))
        sure = np.mean([answer.confidence[places] for answer in answers[1 - side]], axis=0)
        kept = places[np.argsort(-sure, kind="stable")][:most]
        chosen.append(tuple(_example(int(place), answers) for place in kept))
        counts.append(len(places))
    return TaskContrast(
        first.task,
        first.data.fingerprint,
        tuple(result.id for results in finals for result in results),
        labels,
        (100 * float(share[0].mean()), 100 * float(share[1].mean())),
        (_alone(share[0], share[1]), _alone(share[1], share[0])),
        None,
        _by_class(labels, answers, right),
        (chosen[0], chosen[1]),
        (counts[0], counts[1]),
    )


def _alone(share: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The share of images that the first has right and the other wrong, in %."""
    return 100 * float((share * (1 - other)).mean())


def _example(place: int, answers: Sequence[Sequence[Predictions]]) -> Example:
    shown = []
    for each in answers:
        label = _most_frequent(np.array([answer.predicted[place] for answer in each]))
        sure = [float(a.confidence[place]) for a in each if a.predicted[place] == label]
        shown.append(Answer(label, sum(sure) / len(sure)))
    return Example(place, int(answers[0][0].labels[place]), (shown[0], shown[1]))


def _by_class(
    labels: NDArray[np.int32], answers: Sequence[Sequence[Predictions]], right: Sequence[Right]
) -> tuple[ClassContrast, ...]:
    """Each class, its p-values corrected for looking at all."""
    classes, values = [], []
    for label in np.unique(labels):
        inside = labels == label
        a, b = right[0][:, inside], right[1][:, inside]
        mistaken = [_mistaken(each, inside) for each in answers]
        accuracy = (100 * float(a.mean()), 100 * float(b.mean()))
        classes.append(
            ClassContrast(int(label), int(inside.sum()), accuracy, 1.0, (mistaken[0], mistaken[1]))
        )
        values.append(of_class(a, b))
    corrected = [
        replace(entry, p_corrected=p) for entry, p in zip(classes, holm(values), strict=True)
    ]
    return tuple(sorted(corrected, key=lambda entry: -abs(entry.difference) * entry.images))


def of_class(a: Right, b: Right) -> float:
    """The p of no difference on the images of a class.

    Classes can be small, and where all their images agree no variance is left to judge by. So the
    exact sign test over images has to agree with the test over images and seeds (paired.py): the
    larger p counts.
    """
    by_image = a.mean(axis=0) - b.mean(axis=0)
    above, below = int((by_image > 0).sum()), int((by_image < 0).sum())
    if above + below == 0:
        return 1.0
    return max(sign_test(above, below), of_finals(a, b).p())


def _mistaken(each: Sequence[Predictions], inside: NDArray[np.bool_]) -> Answer | None:
    wrong = np.concatenate([answer.predicted[inside & ~answer.right] for answer in each])
    if not wrong.size:
        return None
    label = _most_frequent(wrong)
    return Answer(label, 100 * float((wrong == label).sum()) / (len(each) * int(inside.sum())))


def _most_frequent(labels: NDArray[np.int32]) -> int:
    found, count = np.unique(labels, return_counts=True)
    return int(found[count.argmax()])


def _turned(pair: Pair) -> Pair:
    """The same comparison with the methods in the other order."""
    low, high = pair.ci95
    return replace(
        pair,
        methods=pair.methods[::-1],
        difference=-pair.difference,
        ci95=(-high, -low),
        probability=1 - pair.probability,
    )

"""The finals' predictions -> which methods can be compared by them, and how they compare."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from arc_train.predictions import Predictions
from orchestrator.leaderboard.board import Quality
from orchestrator.leaderboard.means import weights
from orchestrator.leaderboard.paired import Pair, Right, compare
from orchestrator.store.result import Result, Study

# Of a pair: backbone, scope, task, and its two methods.
PairKey = tuple[str, str, str | None, frozenset[str]]
Pairs = Mapping[PairKey, Pair]


def pairs(
    tested: Mapping[Study, Sequence[Result]],
    groups: Mapping[str, str],
    seeds: int,
    predictions: Mapping[str, Predictions],
) -> Pairs:
    """Every two methods that were tested on the same images, compared by them.

    tested: each study's finals. groups: task -> group. seeds: how many finals a study has.
    predictions: of finals, by id. Left out are studies whose finals aren't all there, and tasks
    that aren't judged by the share of images.
    """
    found: dict[PairKey, Pair] = {}
    for backbone in dict.fromkeys(study.backbone for study in tested):
        finals = {study: r for study, r in tested.items() if study.backbone == backbone}
        means = weights({study.task: groups[study.task] for study in finals})
        for pair in compare(backbone, _by_task(finals, seeds, predictions), means):
            found[backbone, pair.scope, pair.task, frozenset(pair.methods)] = pair
    return found


def quality(finals: Sequence[Result], predictions: Mapping[str, Predictions]) -> Quality | None:
    """A study's balanced accuracy and calibration, over its finals that kept their predictions."""
    kept = [predictions[result.id] for result in finals if result.id in predictions]
    kept = [one for one in kept if one.labels.size and measurable(one)]
    if not kept:
        return None
    return Quality(
        balanced_accuracy=fmean(one.balanced_accuracy for one in kept),
        ece=fmean(one.calibration_error() for one in kept),
        nll=fmean(float(one.loss.mean(dtype=np.float64)) for one in kept),
        n=len(kept),
    )


def measurable(one: Predictions) -> bool:
    """Whether confidences are probabilities and losses finite; a damaged file's may be neither."""
    probable = (one.confidence >= 0) & (one.confidence <= 1)
    return bool(probable.all() and np.isfinite(one.loss).all())


def _by_task(
    finals: Mapping[Study, Sequence[Result]], seeds: int, predictions: Mapping[str, Predictions]
) -> dict[str, dict[str, Right]]:
    """Task -> method -> [seeds, images], of the images that the task's first method was shown."""
    answers: dict[str, dict[str, Right]] = {}
    images: dict[str, object] = {}
    for study, results in finals.items():
        kept = [predictions[result.id].right for result in results if result.id in predictions]
        if not kept or not seeds <= len(kept) == len(results):
            continue
        if results[0].data.metric not in (None, "accuracy"):
            continue
        shown = {
            (result.data.fingerprint, right.size)
            for result, right in zip(results, kept, strict=True)
        }
        if len(shown) == 1 and images.setdefault(study.task, shown) == shown:
            answers.setdefault(study.task, {})[study.method] = np.stack(kept)
    return answers

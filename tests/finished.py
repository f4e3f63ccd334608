"""Folders of sweeps that are finished, for tests that look at some and train nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from arc_train.predictions import Predictions
from orchestrator.spec import dump, load
from orchestrator.store.folder import SweepFolder
from tests.results import final, result

BACKBONE = {"name": "tiny", "model": "vit_tiny_patch16_224", "weights": "random"}
# Method -> what it answers on each test image, by seed: [seeds, images].
Answers = Mapping[str, NDArray[np.integer[Any]]]


def predictions(labels: Sequence[int], predicted: Sequence[int]) -> Predictions:
    """A final's answers, all with a confidence of 0.75."""
    truth, answer = np.array(labels, np.int32), np.array(predicted, np.int32)
    sure = np.full(len(truth), 0.75, np.float32)
    return Predictions(truth, answer, sure, np.where(truth == answer, 0.2, 1.6).astype(np.float32))


def finished(
    place: Path | str,
    labels: Sequence[int],
    answers: Mapping[str, Answers],
    spec: Mapping[str, Any] | None = None,
    scratch: Path | None = None,
    **fields: Any,
) -> SweepFolder:
    """A sweep's folder, its spec, winners and finals with predictions.

    answers: task -> method -> [seeds, images]. fields: of all results. scratch: a folder here,
    where place is in object storage.
    """
    seeds = len(next(iter(next(iter(answers.values())).values())))
    content = {
        "name": str(place).rsplit("/", 1)[-1],
        "tasks": list(answers),
        "methods": list(dict.fromkeys(method for task in answers.values() for method in task)),
        "backbones": [BACKBONE],
        "finals": {"seeds": list(range(seeds))},
        **(spec or {}),
    }
    file = Path(scratch or place).with_suffix(".yaml")
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    folder = SweepFolder(place)
    folder.create()
    folder.write_spec(dump(load(file)))
    for task, methods in answers.items():
        for method, by_seed in methods.items():
            own: dict[str, Any] = {"backbone": "tiny", "method": method, "task": task, **fields}
            folder.write_result(result(**own))
            for seed, predicted in enumerate(by_seed):
                answer = predictions(labels, predicted)
                tested = final(seed, answer.accuracy, **own)
                folder.write_result(tested)
                folder.write_predictions(tested.id, answer)
    return folder

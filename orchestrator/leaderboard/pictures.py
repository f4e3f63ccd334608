"""The test images that two methods differ on, as small pictures; only when finals are over."""

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.cache import default_folder
from arc_train.tasks.catalog import catalog
from arc_train.tasks.hub import UNIFORM
from arc_train.tasks.pictures import pick_test_images
from orchestrator.leaderboard.contrast import Contrast, TaskContrast
from orchestrator.leaderboard.source import Source
from orchestrator.leaderboard.tested import tested_of
from orchestrator.store.access import SplitAccess
from orchestrator.store.folder import SweepFolder, Unwritable
from orchestrator.store.result import Study

SIDE = 112  # pixels that a picture has at most


@dataclass(frozen=True)
class Pictures:
    """Of one task: WebP by place in the test split, or why there are none."""

    images: Mapping[int, bytes]
    missing: str | None = None


def pictures(folder: SweepFolder, source: Source, shown: Contrast) -> dict[str, Pictures]:
    """The pictures of each task's examples, where its images are on this machine.

    A task's test images are looked at when no study of the sweep on it waits for finals, and that
    is put on record, as each opening of a test split is.
    """
    return {found.task: _of_task(folder, source, shown, found) for found in shown.tasks}


def _of_task(folder: SweepFolder, source: Source, shown: Contrast, found: TaskContrast) -> Pictures:
    places = [example.place for side in found.examples for example in side]
    if not places:
        return Pictures({})
    if waiting := _waiting(source, found.task):
        return Pictures({}, f"the test split stays closed until {', '.join(waiting)} have finals")
    spec = source.spec
    tasks = spec.catalog if spec else catalog()
    if found.task not in tasks:
        return Pictures({}, "without spec.yaml nothing says where its images are")

    def record() -> None:
        for method in shown.methods:
            folder.record_test_access(_access(Study(shown.backbone, method, found.task), found))

    try:
        images = pick_test_images(
            tasks[found.task],
            found.fingerprint,
            found.labels,
            places,
            record,
            spec.cache_folder if spec else default_folder(),
            spec.data_root if spec else None,
            spec.draw if spec else UNIFORM,
        )
    except Unwritable as error:
        return Pictures({}, f"the opening of the test split can't be put on record: {error}")
    except InputError as error:
        return Pictures({}, str(error))
    return Pictures({place: _small(image) for place, image in zip(places, images, strict=True)})


def _waiting(source: Source, task: str) -> list[str]:
    """The studies on a task whose finals aren't all there."""
    seeds = source.protocol.seeds
    return [
        f"{study.backbone}/{study.method}"
        for study in source.studies
        if study.task == task
        and len(tested_of([r for r in source.results if r.study == study], seeds)) < len(seeds)
    ]


def _access(study: Study, found: TaskContrast) -> SplitAccess:
    return SplitAccess(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        purpose="pictures",
        task=study.task,
        study=str(study),
        pack="",
        trials=found.trials,
        process=os.getpid(),
    )


def _small(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    image.save(content, "WEBP", quality=80)
    return content.getvalue()

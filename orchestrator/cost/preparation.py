"""What filling a node's cache takes: disk, and hours of a core, by decoding a few images now."""

from collections.abc import Mapping
from dataclasses import dataclass

from arc_train.backbones import input_size, outline
from arc_train.errors import InputError
from arc_train.tasks.build import probe
from arc_train.tasks.cache import disk
from arc_train.tasks.catalog import Task
from arc_train.tasks.sources import HUB, open_source
from arc_train.tasks.transform import transform
from orchestrator.spec import Spec

# Of a photograph of about 300 pixels, on a core of the machine of benchmarks/results.md.
SECONDS_AN_IMAGE = 0.002


@dataclass(frozen=True)
class Preparation:
    """Before any training, on every node whose cache is empty.

    images: to decode, once for each image size of the sweep's backbones. gigabytes: of disk.
    core_hours: of one core; a node decodes on all that it has.
    """

    images: int
    gigabytes: float
    core_hours: float


def preparation(spec: Spec, sizes: Mapping[str, tuple[int, int, int]]) -> Preparation:
    """Count before anything runs; sizes: task -> images of (train, val, test)."""
    sides = {input_size(outline(named.backbone())) for named in spec.backbones}
    images, space, seconds = 0, 0.0, 0.0
    for key, task in spec.catalog.items():
        count = sum(sizes[key])
        for side in sides:
            seconds_each, bytes_each = _an_image(spec, task, side)
            images += count
            space += count * bytes_each
            seconds += count * seconds_each
    return Preparation(images, space / 1e9, seconds / 3600)


def _an_image(spec: Spec, task: Task, side: int) -> tuple[float, float]:
    """Seconds and bytes of one, from some of the task's if they are here."""
    usual = (SECONDS_AN_IMAGE, disk(task, 1, side))
    if spec.data_root == HUB and task.location is None:  # a plan downloads nothing published
        return usual
    try:
        return probe(open_source(task, spec.data_root, spec.draw), transform(task, side)) or usual
    except InputError:  # `run` and `data check` say it
        return usual

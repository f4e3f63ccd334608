"""What this machine has of a task: reads all of its lists, looks for only some of its images."""

from dataclasses import dataclass
from pathlib import Path

from arc_train.errors import InputError
from arc_train.tasks.cache import cached
from arc_train.tasks.catalog import Task
from arc_train.tasks.lists import FGVCSource, Line, ListSource, VTABSource
from arc_train.tasks.sources import holds_data_set, task_folder
from arc_train.tasks.splits import SPLITS
from arc_train.tasks.standins import VARIANT

STRIDE = 500  # one image in so many is checked for existence


@dataclass(frozen=True)
class Ready:
    """A task's lists and its entries in the cache.

    lists: embedded, found, other sizes (than published), data set, not found or wrong.
    detail: the lists' folder and sizes, or what is missing or wrong.
    cached: the image sizes (side in pixels) in the cache. An entry may come from earlier files than
        those on disk now; only `data prepare`, which reads every file, can tell.
    """

    lists: str
    detail: str | None
    cached: tuple[int, ...]


def inspect_task(task: Task, root: Path, cache: Path) -> Ready:
    """Read a task's lists below the root, and find its entries in the cache."""
    entries = [entry for entry in cached(task, cache) if entry["variant"] != VARIANT]
    sides = tuple(sorted({entry["size"] for entry in entries}))
    if task.group == "demo":
        return Ready("embedded", None, sides)
    folder = task_folder(task, root)
    if folder is None:
        return Ready("not found", f"no folder {' or '.join(task.folders)}", sides)
    if holds_data_set(folder):
        return Ready("data set", f"{folder}: its images are drawn, not the published ones", sides)
    try:
        source = (_SampledFGVC if task.group == "fgvc" else _SampledVTAB)(task, folder)
    except InputError as error:
        return Ready("wrong", str(error), sides)
    sizes = [source.size(split) for split in SPLITS]
    state = "found" if task.published(*sizes) else "other sizes"
    return Ready(state, f"{folder}: {'/'.join(map(str, sizes))} images", sides)


class _Sampled(ListSource):
    """Checks the labels of all lines, but the images of few."""

    _read_lines = 0

    def _line(self, where: str, root: Path, name: str, label: int) -> Line:
        self._read_lines += 1
        if self._read_lines % STRIDE == 1 or label >= self.task.classes:
            return super()._line(where, root, name, label)
        return Line(where, root, label)


class _SampledVTAB(_Sampled, VTABSource):
    pass


class _SampledFGVC(_Sampled, FGVCSource):
    pass

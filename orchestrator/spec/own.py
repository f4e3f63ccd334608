"""A user's own task in a sweep file: paths made whole, and every fault found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from arc_train.tasks.catalog import catalog, groups
from orchestrator.spec.faults import explain
from orchestrator.spec.task import TaskSpec
from orchestrator.spec.variables import fill_in

# Names that mean something else where groups stand: benchmarks and their groups, means, fields of
# leaderboard.json.
RESERVED = frozenset(
    {task.group for task in catalog().values()}
    | {name.split("/")[0] for name in groups()}
    | {"backbone", "method", "mean", "mean_19", "mean_groups", "ci95", "params_mean", "n_tasks"}
    | {"n_expected", "n_by_group", "published", "retuned", "best_on_test", "best"}
    | {"ties_with_best"}
)


def own_task(entry: Mapping[str, Any], place: int, faults: list[str]) -> TaskSpec | str:
    """The checked task; a placeholder where something is wrong.

    Paths become absolute, so that spec.yaml means the same from everywhere; whether they exist is
    asked where images are read. A data set named by a path (./beans, ~/beans) is a folder.

    place: of the entry in the list. faults: grows by what is wrong.
    """
    data, before, key = dict(entry), len(faults), f"tasks[{place}]"
    if str(data.get("dataset", "")).startswith((".", "/", "~")):
        data.setdefault("folder", data.pop("dataset"))
    for name in ("folder", "list"):
        data[name] = fill_in(data.get(name), f"{key}.{name}", faults)
        if isinstance(data[name], str):
            data[name] = str(Path(data[name]).expanduser().absolute())
    if data.get("name") in [*catalog(), *groups()]:
        faults.append(f"{key}.name {data['name']!r} is of the catalogue; choose another one")
        return str(data["name"])
    try:
        task = TaskSpec.model_validate(data)
    except ValidationError as error:
        for detail in error.errors():
            faults.append(explain({**detail, "loc": ("tasks", place, *detail["loc"])}))
        return str(data.get("name", key))
    if task.group in RESERVED:
        faults.append(f"{key}.group {task.group!r} means something else; choose another one")
    if (task.folder is None and task.list is None) == (task.dataset is None):
        faults.append(f"{key} must have a folder, a list or a dataset to take its images from")
    return task if len(faults) == before else task.name

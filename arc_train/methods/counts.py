"""How many parameters a method trains, beside what the published tables print.

torch is imported where something is counted: the printed figures are read without it.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from arc_train.backbone import Backbone
from arc_train.methods import METHODS


@dataclass(frozen=True)
class Count:
    """Trained parameters of a method on a backbone.

    adapter: without the head. vtab, fgvc: with it, mean over the benchmark's tasks.
    published: benchmark -> the printed figure, in millions, as text with its own precision.
    notes: benchmark -> why the printed figure differs, where it does.
    """

    backbone: str
    method: str
    setting: dict[str, int]
    adapter: int
    vtab: float
    fgvc: float
    published: dict[str, str]
    notes: dict[str, str]


@cache
def counts() -> tuple[Count, ...]:
    """All methods on the backbones of the published tables; nothing is downloaded or allocated."""
    from arc_train.backbones import outline

    table = published()
    found = []
    for entry in table["tables"]:
        backbone = outline(Backbone(entry["backbone"], entry["model"], "random"))
        for method in METHODS:
            setting = table["at"].get(method, {})
            adapter, width = _count(backbone, entry["backbone"], method, setting)
            heads = {
                name: (width + 1) * classes / tasks
                for name, (tasks, classes) in table["classes"].items()
            }
            printed = {b: entry[b][method] for b in heads if method in entry.get(b, {})}
            found.append(
                Count(
                    backbone=entry["backbone"],
                    method=method,
                    setting=setting,
                    adapter=adapter,
                    vtab=adapter + heads["vtab"],
                    fgvc=adapter + heads["fgvc"],
                    published=printed,
                    notes={
                        b: note
                        for b, notes in entry.get("notes", {}).items()
                        if (note := notes.get(method))
                    },
                )
            )
    return tuple(found)


@cache
def trained(backbone: Backbone, method: str) -> int:
    """Parameters that a trial trains below the head, at the method's default setting.

    Raises:
        InputError: there is no such model, or the method can't adapt it.
    """
    from arc_train.backbones import outline

    return _count(outline(backbone), backbone.name, method, {})[0]


@cache
def published() -> dict[str, Any]:
    """published.yaml."""
    table: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())
    return table


def _count(backbone: Any, name: str, method: str, setting: dict[str, Any]) -> tuple[int, int]:
    """(trained parameters without the head, width of the features)."""
    import torch

    from arc_train.adaptation import adapter_state, try_adapt
    from arc_train.trained import HEAD_WEIGHT, count

    with torch.device("meta"):
        model = try_adapt(backbone, name, method, **setting)
    state = adapter_state(model)
    return count(state)[1], state[HEAD_WEIGHT].shape[1]

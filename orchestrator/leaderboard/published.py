"""What others printed for a backbone, method and task, to stand beside our results.

published.yaml has the tables of the ARC paper, retuned.yaml one independent study that tuned the
baselines anew. Both are compared by means of their cells, since some printed means are wrong.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from arc_train.backbone import Backbone
from arc_train.methods import counts
from arc_train.tasks.catalog import catalog
from arc_train.tasks.lists import FGVCSource, VTABSource
from orchestrator.leaderboard.means import VTAB_GROUPS, averages

# Kinds of data whose splits are the published ones.
SAME_SPLITS = frozenset({VTABSource.layout, FGVCSource.layout})
# timm's tags of the weights that the tables name.
PRETRAINED = {
    "orig_in21k": "original ImageNet-21k",
    "ms_in22k": "original ImageNet-21k",
    "augreg_in21k": "AugReg ImageNet-21k",
}
UNNAMED = "ImageNet-21k"  # one of the two, but nobody says which
# Cells and means are rounded to 0.1: further apart than this, that rarely explains it, ...
TOLERANCE = 0.061
# ... and further than this, never.
ROUNDING = 0.1


@dataclass(frozen=True)
class Printed:
    """A method's row of a foreign table; accuracies in %.

    name: the method's, as printed. scores: task -> accuracy. best: task -> accuracy of the epoch
    that was best on test, where the source has both. means: by name, as printed. params: in
    millions with head, mean over the benchmark's tasks, as printed.
    """

    method: str
    name: str
    backbone: str
    benchmark: str
    protocol: str
    weights: str
    source: str
    scores: Mapping[str, float]
    best: Mapping[str, float]
    means: Mapping[str, float]
    params: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Disagreement:
    """A printed mean that its own cells contradict; by_rounding: rounding could explain it."""

    backbone: str
    benchmark: str
    name: str
    mean: str
    printed: float
    recomputed: float

    @property
    def by_rounding(self) -> bool:
        return abs(self.printed - self.recomputed) <= ROUNDING


def published(backbone: Backbone, method: str, benchmark: str) -> Printed | None:
    """The published row of a method (benchmark: vtab or fgvc), on our weights if there is one."""
    key = (_family(backbone), method, benchmark)
    rows = [row for row in tables() if (row.backbone, row.method, row.benchmark) == key]
    ours = pretraining(backbone)
    return min(rows, key=lambda row: (row.weights != ours, row.name.endswith("*")), default=None)


def retuned(backbone: Backbone, method: str, benchmark: str) -> Printed | None:
    """The same of the independent study, which is of VTAB-1k on ViT-B/16 only."""
    key = (_family(backbone), method, benchmark)
    rows = (row for row in _retuned() if (row.backbone, row.method, row.benchmark) == key)
    return next(rows, None)


def lookup(model: str, method: str, task: str) -> float | None:
    """The published accuracy in % of a timm model, a method and a task."""
    row = published(Backbone(model, model), method, task.split("/")[0])
    return row.scores[task] if row else None


def means_of(scores: Mapping[str, float]) -> dict[str, float]:
    """The means of a whole benchmark's accuracies (task -> %), by name."""
    groups = [catalog()[task].group for task in scores]
    means = averages(groups, list(scores.values()))
    return {key: value for key, value in means.items() if key != "mean" and value is not None}


def comparable(variants: Collection[str]) -> bool:
    """Whether results on these kinds of data are of the published splits; drawn images aren't."""
    return bool(variants) and SAME_SPLITS.issuperset(variants)


def pretraining(backbone: Backbone) -> str | None:
    """What a backbone was pretrained on, as the tables name it; None of a file, which can't tell.

    Other weights of timm are named by their tag.
    """
    if backbone.weights != "timm":
        return None
    _, tagged, tag = backbone.model.partition(".")
    if not tagged:
        from timm.models import get_pretrained_cfg  # slow to import, so only for a default tag

        config = get_pretrained_cfg(backbone.model)
        tag = config.tag if config else ""
    return PRETRAINED.get(tag, tag) or None


def same_weights(backbone: Backbone, row: Printed) -> bool | None:
    """Whether a published row is of our weights; None where either side can't tell."""
    ours = pretraining(backbone)
    return None if ours is None or row.weights == UNNAMED else row.weights == ours


def disagreements(backbones: Collection[str] | None = None) -> list[Disagreement]:
    """Printed means that the cells of their row don't give, of all tables or of some backbones'."""
    return [
        Disagreement(row.backbone, row.benchmark, row.name, key, printed, recomputed)
        for row in tables()
        if backbones is None or row.backbone in backbones
        for key, printed in row.means.items()
        if abs(printed - (recomputed := means_of(row.scores)[key])) > TOLERANCE
    ]


@cache
def tables() -> tuple[Printed, ...]:
    """All rows of published.yaml."""
    content = _read("published.yaml")
    params = {table["backbone"]: table for table in counts.published()["tables"]}
    rows = []
    for table in content["tables"]:
        backbone, benchmark = table["backbone"], table["benchmark"]
        keys = ("fgvc",) if benchmark == "fgvc" else (*VTAB_GROUPS, "mean_19")
        for key, row in table["rows"].items():
            method = key.removesuffix("*")
            about = content["rows"][key]
            notes = [note for note in (about.get("note"), row.get("note")) if note]
            means = row["means"]
            rows.append(
                Printed(
                    method=method,
                    backbone=backbone,
                    benchmark=benchmark,
                    scores=_by_task(benchmark, row["scores"]),
                    best={},
                    means=means if isinstance(means, dict) else dict(zip(keys, means, strict=True)),
                    params=float(params[backbone][benchmark][method]),
                    **{"source": table["source"], **about, "note": "; ".join(notes) or None},
                )
            )
    return tuple(rows)


@cache
def _retuned() -> tuple[Printed, ...]:
    content = _read("retuned.yaml")
    about = {key: content[key] for key in ("backbone", "protocol", "weights", "source")}
    return tuple(
        Printed(
            method=method,
            name=row["name"],
            benchmark="vtab",
            scores=_by_task("vtab", row["last"]),
            best=_by_task("vtab", row["best"]),
            means={},
            **about,
        )
        for method, row in content["rows"].items()
    )


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name(name).read_text())
    return content


def _by_task(benchmark: str, scores: list[float]) -> dict[str, float]:
    tasks = [task for task in catalog() if task.startswith(benchmark + "/")]
    return dict(zip(tasks, scores, strict=True))


def _family(backbone: Backbone) -> str | None:
    """A backbone's name in the tables, if it is one of theirs as they used it."""
    if backbone.weights == "random" or backbone.args:
        return None
    model = backbone.model.split(".")[0]
    return next(
        (table["backbone"] for table in counts.published()["tables"] if table["model"] == model),
        None,
    )

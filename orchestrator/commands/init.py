"""`arc-sweep init`: looks at a folder of images and writes a sweep file for it."""

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.exit_codes import DONE

if TYPE_CHECKING:
    from arc_train.tasks.sources import Source

MOST_NAMES = 20  # of classes in a line
UNEVEN = 3  # times the images of the smallest class: from here on, that is worth a word

TEMPLATE = """\
# Written by arc-sweep init, which found {found}:
# {classes}.
# Every key: docs/own-data.md.

name: {name}

tasks:
  - name: {name}
    {place}: {path}
    # {splits}
    metric: accuracy            # or balanced_accuracy, the mean over classes{uneven}
    resize: squash              # to a square, whatever the aspect; or crop, from the middle
    augment: none               # or crop+flip: another part in every epoch, mirrored or not
  # - vtab/pets                 # tasks of the catalogue may stand beside yours: arc-sweep tasks

methods: [linear, arc]          # arc-sweep methods

# Fetched from the hub when it is first used. For a first try without a GPU or a connection there is
# arc_pico, which is embedded, small and weak.
backbones: [vit_base_patch16_224.augreg_in21k]

search: {{trials: 16}}            # configurations tried for each method
finals: {{seeds: [0, 1, 2]}}      # the best one is refitted under each, and tested once
wandb: {{mode: auto}}             # online with credentials, else offline
"""

EXAMPLE = "~/beans --output beans.yaml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "images",
        metavar="FOLDER",
        help="has a folder for each class, lists, or a Hugging Face data set; or a CSV file",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the sweep file (NAME.yaml)")


def run(options: argparse.Namespace) -> int:
    """Write the sweep file and say what was found; returns the exit code."""
    from arc_train.tasks.own import OwnLists
    from arc_train.tasks.sources import open_source
    from orchestrator.spec.task import TaskSpec

    images = Path(options.images).expanduser().absolute()
    if not images.exists():
        raise InputError(f"no folder {images}")
    name, place = _name(images), "folder" if images.is_dir() else "list"
    out = Path(options.output or f"{name}.yaml")
    if out.exists():
        raise InputError(f"{out} exists: remove it, or name another file with --output")
    source = open_source(TaskSpec.model_validate({"name": name, place: str(images)}).task, None)
    found, classes, splits = _found(source), _classes(source), _splits(source)
    text = TEMPLATE.format(
        found=found,
        classes=classes,
        name=_quoted(name),
        place=place,
        path=_quoted(_short(images)),
        splits=splits,
        uneven=_uneven(source),
    )
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't write {out}: {error.strerror}") from error
    print(f"found {found}: {classes}")
    print(splits)
    if isinstance(source, OwnLists) and source.remark:
        print(source.remark)
    print(f"wrote {out}; look at it, then")
    for command in ("data check", "plan", "run"):
        print(f"  arc-sweep {command} {out}")
    return DONE


def _name(images: Path) -> str:
    """A name that a task may have, after the folder."""
    from arc_train.tasks.catalog import catalog, groups

    stem = images.name if images.is_dir() else images.stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "images"
    return f"my-{name}" if name in (*catalog(), *groups()) else name


def _quoted(text: str) -> str:
    """A text as YAML, in quotes where it would mean something else."""
    import yaml

    try:
        plain = yaml.safe_load(text) == text
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _found(source: "Source") -> str:
    task = source.task
    images = task.train + task.val + task.test
    return f"{source.variant.split(' (')[0]} with {images:,} images of {task.classes:,} classes"


def _counts(source: "Source") -> list[int]:
    """Images of each class in all splits."""
    from collections import Counter

    from arc_train.tasks.splits import SPLITS

    counts = Counter(label for split in SPLITS for label in source.labels(split).tolist())
    return [counts[label] for label in range(source.task.classes)]


def _classes(source: "Source") -> str:
    counted = zip(source.task.class_names, _counts(source), strict=True)
    named = [" ".join(f"{name} {count}".split()) for name, count in counted]
    more = f" and {len(named) - MOST_NAMES} more" if len(named) > MOST_NAMES else ""
    return ", ".join(named[:MOST_NAMES]) + more


def _splits(source: "Source") -> str:
    task = source.task
    drawn = re.search(r"\((.* drawn with seed \d+)\)", source.variant)
    how = f": {drawn[1]}, a fifth of each class" if drawn else ", as given"
    return f"train {task.train:,}, val {task.val:,}, test {task.test:,} images{how}"


def _uneven(source: "Source") -> str:
    """A hint where accuracy hides rare classes."""
    counts = _counts(source)
    times = max(counts) / min(counts)
    return f": here classes differ {times:.0f}-fold" if times >= UNEVEN else ""

"""The provenance of a result: the code, the packages and the device that made it."""

import platform
import subprocess
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from arc_train.methods.own import Source
from arc_train.tasks.cache import Entry
from arc_train.tasks.views import Split
from orchestrator import __version__
from orchestrator.store.result import CodeInfo, DataInfo

PACKAGES = ("torch", "timm", "numpy", "pillow", "ray")


@cache
def code_version() -> CodeInfo:
    """This project's version and, in a git checkout, its commit, with "+" if files changed."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here.parent))
    except (OSError, subprocess.CalledProcessError):
        return CodeInfo(__version__, None)
    return CodeInfo(__version__, commit + ("+" if changed else ""))


def code_of(source: Source | None) -> CodeInfo:
    """The code of a trial whose method has a source of its own, if it has."""
    return replace(code_version(), method=source.digest) if source else code_version()


@cache
def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in PACKAGES}


def device_name(device: torch.device) -> str:
    """The accelerator's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def data_info(entry: Entry, normalise: str, val: Split | None) -> DataInfo:
    """Which images a trial saw; val: what a search validates on, None in a final.

    Of a user's own task results say more; of the catalogue's the name says it.
    """
    own = entry.task.location is not None
    return DataInfo(
        variant=entry.variant,
        split=entry.split,
        fingerprint=entry.fingerprint,
        transform=entry.transform,
        normalise=normalise,
        val_images=None if val is None else len(val),
        metric=entry.task.metric if own else None,
        class_names=entry.task.class_names if own and val is None else None,
        limit=entry.task.limit if own and val is not None else None,
    )

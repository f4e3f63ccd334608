"""learned.json: trials of earlier sweeps, copied into the folder of one that learns from them.

The earlier sweeps may go on, move or be deleted: a sweep that is resumed proposes what it did.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from arc_train.hyperparameters.space import Config
from orchestrator.store import record
from orchestrator.store.folder import SweepFolder
from orchestrator.store.record import STRICT
from orchestrator.store.result import Study

FILE = "learned.json"


@dataclass(frozen=True, slots=True)
class Tried:
    """A configuration and its validation accuracy in percent; None: it diverged."""

    __pydantic_config__ = STRICT

    config: Config
    val_accuracy: float | None


@dataclass(frozen=True, slots=True)
class EarlierStudy:
    """What a study of an earlier sweep tried; sweep: that one's name."""

    __pydantic_config__ = STRICT

    sweep: str
    study: Study
    trials: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """All that a sweep learned from earlier ones."""

    __pydantic_config__ = STRICT

    studies: tuple[EarlierStudy, ...] = ()


_LEARNED = TypeAdapter(Learned)


def read_learned(path: Path) -> Learned:
    """What a learned.json holds.

    Raises:
        Unreadable: it holds something else; names the key.
    """
    return record.read(_LEARNED, path, "trials of earlier sweeps")


def learned_in(folder: SweepFolder) -> Learned | None:
    """What a sweep's folder has learned; None where there is no learned.json.

    Raises:
        Unreadable: as `read_learned`.
    """
    path = folder.path / FILE
    folder.fetch(path)
    return read_learned(path) if path.exists() else None


def write_learned(folder: SweepFolder, learned: Learned) -> None:
    """Keep what was learned."""
    text = record.text(record.plain(_LEARNED, learned))
    folder.write(folder.path / FILE, text.encode())

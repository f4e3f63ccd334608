"""importance.json: what explains each method's accuracy, kept for the leaderboard's page."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from arc_train.hyperparameters.importance import Importance
from orchestrator.store import record
from orchestrator.store.folder import SweepFolder
from orchestrator.store.record import STRICT, Unreadable

FILE = "importance.json"


@dataclass(frozen=True, slots=True)
class MethodImportance:
    """Of one method on one backbone, by the accuracies that its trials had after `epoch`."""

    __pydantic_config__ = STRICT

    backbone: str
    method: str
    epoch: int
    importance: Importance


@dataclass(frozen=True, slots=True)
class Importances:
    """Of all methods of a sweep; trials: search trials that the folder had."""

    __pydantic_config__ = STRICT

    trials: int
    methods: tuple[MethodImportance, ...]


_IMPORTANCES = TypeAdapter(Importances)


def importances_in(folder: SweepFolder) -> Importances | None:
    """What a folder keeps; None where that is nothing, or can't be read: it is made anew."""
    path = folder.path / FILE
    folder.fetch(path)
    try:
        return record.read(_IMPORTANCES, path, "importance of hyperparameters")
    except Unreadable:
        return None


def write_importances(folder: SweepFolder, found: Importances) -> None:
    """Keep it."""
    text = record.text(record.plain(_IMPORTANCES, found))
    folder.write(folder.path / FILE, text.encode())

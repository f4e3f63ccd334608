"""A pack: trials of one study that train together, and the file that is written before they do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from arc_train.hyperparameters.space import Config
from orchestrator.store import record
from orchestrator.store.record import STRICT
from orchestrator.store.result import Study, TrialInfo

PackKind = Literal["search", "revalidate", "final"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration to train, with everything that its draws are seeded by.

    seed: initialisation and dropout. order_seed: order of the batches.
    """

    __pydantic_config__ = STRICT

    id: str
    config: Config
    seed: int
    init_seed: int
    order_seed: int


@dataclass(frozen=True, slots=True)
class PackPlan:
    """Trials of one study that train together: what one Ray Tune trial runs."""

    __pydantic_config__ = STRICT

    id: str
    kind: PackKind
    study: Study
    trials: tuple[Trial, ...]

    def info(self, trial: Trial) -> TrialInfo:
        """What the result of one of its trials says whatever comes of it."""
        return TrialInfo(
            id=trial.id,
            kind="final" if self.kind == "final" else "search",
            backbone=self.study.backbone,
            method=self.study.method,
            task=self.study.task,
            config=trial.config,
            seed=trial.seed,
        )


_PACK = TypeAdapter(PackPlan)


def read_pack(path: Path) -> PackPlan:
    """The pack in a file, of any version.

    Raises:
        InputError: the file holds no pack; names the key.
    """
    return record.read(_PACK, path, "pack record")


def pack_text(pack: PackPlan) -> str:
    """The text of a pack's file."""
    return record.text(record.plain(_PACK, pack))


def pack_of(text: str) -> PackPlan:
    """The pack of a text that `pack_text` made."""
    return _PACK.validate_json(text)

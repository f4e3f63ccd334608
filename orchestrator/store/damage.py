"""Damaged files: found before a run, and set aside, so that what they held is made again."""

from collections.abc import Callable, Iterable
from pathlib import Path

from arc_train.predictions import Predictions
from orchestrator.store.adapter import check_adapter
from orchestrator.store.folder import SweepFolder
from orchestrator.store.learned import learned_in
from orchestrator.store.record import DamagedFile, Unreadable
from orchestrator.store.resolved_spec import read_spec


def set_aside_damaged(folder: SweepFolder) -> list[DamagedFile]:
    """Move the damaged files of a folder to damaged/; tells of each.

    Results, pack records, the spec, trials of earlier sweeps, and what finals learned and answered:
    such a final's result goes along, since only its training makes them again. Files that can't be
    read, or come from a newer arc-sweep, stay: they may be whole. Checkpoints are seen to by their
    packs.
    """
    faults: list[Unreadable] = [*folder.survey()[1], *folder.survey_packs()[1]]
    if path := folder.fetched_spec():
        try:
            read_spec(path)
        except DamagedFile as fault:
            faults.append(fault)
    try:
        learned_in(folder)
    except Unreadable as fault:
        faults.append(fault)
    damaged = [fault for fault in faults if isinstance(fault, DamagedFile)]
    of_finals = [
        *_damaged(folder, folder.adapters.glob("*.safetensors"), check_adapter),
        *_damaged(folder, folder.predictions.glob("*.npz"), _check_predictions),
    ]
    paths = [fault.path for fault in (*damaged, *of_finals)]
    paths += [folder.trials / f"{fault.path.stem}.json" for fault in of_finals]
    for path in dict.fromkeys(paths):
        if path.exists():
            folder.set_aside(path)
    return [*damaged, *of_finals]


def _damaged(
    folder: SweepFolder, paths: Iterable[Path], check: Callable[[Path], None]
) -> list[DamagedFile]:
    """What a check finds; where this machine's copy is damaged, the object is asked."""
    faults = []
    for path in sorted(paths):
        try:
            try:
                check(path)
            except DamagedFile:
                folder.fetch(path)
                check(path)
        except DamagedFile as fault:
            faults.append(fault)
        except OSError:  # it can't be read
            continue
    return faults


def _check_predictions(path: Path) -> None:
    content = path.read_bytes()
    try:
        Predictions.from_bytes(content)
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error

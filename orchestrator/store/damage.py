"""Damaged files: found before a run, and set aside, so that what they held is made again."""

from orchestrator.store.folder import SweepFolder
from orchestrator.store.record import DamagedFile, Unreadable
from orchestrator.store.resolved_spec import read_spec


def set_aside_damaged(folder: SweepFolder) -> list[DamagedFile]:
    """Move the damaged results, pack records and spec of a folder to damaged/; tells of each.

    Files that can't be read, or come from a newer arc-sweep, stay: they may be whole.
    """
    faults: list[Unreadable] = [*folder.survey()[1], *folder.survey_packs()[1]]
    if path := folder.fetched_spec():
        try:
            read_spec(path)
        except DamagedFile as fault:
            faults.append(fault)
    damaged = [fault for fault in faults if isinstance(fault, DamagedFile)]
    for each in damaged:
        folder.set_aside(each.path)
    return damaged

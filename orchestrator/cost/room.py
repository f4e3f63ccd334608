"""The room that a sweep's files take, and whether its folder's disk has it."""

import shutil
from collections import Counter

from arc_train.errors import InputError
from arc_train.methods.counts import trained
from arc_train.packing import BYTES_PER_WEIGHT
from orchestrator.plan import budget, pack_size, studies
from orchestrator.spec import Spec
from orchestrator.store.folder import SweepFolder
from orchestrator.store.remote import is_remote
from orchestrator.store.result import Study

RESULT, ROW = 3000, 80  # bytes of a result's file, and of each epoch in it
PAGE = 5_000_000  # bytes of leaderboard.html


def check_room(spec: Spec, folder: SweepFolder) -> None:
    """Refuse to start a sweep whose results can't all be kept.

    Raises:
        InputError: the disk has less room than what is missing needs; says how much.
    """
    if is_remote(folder.place):
        return
    done = Counter(result.study for result in folder.results().values())
    needed = sum(_missing(spec, study, done[study]) for study in studies(spec))
    if needed:
        needed += PAGE
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise InputError(
            f"{folder.path} has room for {free / 1e6:.1f} MB, and what this sweep lacks takes "
            f"about {needed / 1e6:.1f} MB; make room, or choose another place with `storage`"
        )


def _missing(spec: Spec, study: Study, done: int) -> int:
    """Bytes of results, adapters and one checkpoint that a study still writes."""
    searched, finals = budget(spec, study), len(spec.finals.seeds)
    left = max(0, searched + finals - done)
    if not left:
        return 0
    weights = trained(spec.backbone(study.backbone), study.method)
    results = left * (RESULT + ROW * spec.training.epochs)
    adapters = min(left, finals) * weights * 4
    checkpoint = min(pack_size(spec, study), searched) * weights * BYTES_PER_WEIGHT
    return results + adapters + checkpoint

"""What faults did to sweeps, and the table of it by kind."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, fields


@dataclass
class Tally:
    """What one sweep's faults did.

    lost: trials without a result or a run of W&B's. doubled: results written twice, though they
    were not damaged, and runs of W&B's beyond one for each trial. unequal: results, or the
    leaderboard, that differ from an undisturbed sweep's in more than times. misreported: exit codes
    that aren't true of what lies in the folder. hung: runs that had to be ended. traceback: those
    that were printed. orphans: processes left at the end. redone: epochs trained again. needless:
    those among them that a checkpoint had. starts: seconds from each restart to its first epoch.
    skipped: why nothing was done. minutes: that all of it took.
    """

    sweep: int
    kind: str
    injected: int = 0
    lost: int = 0
    doubled: int = 0
    unequal: int = 0
    misreported: int = 0
    hung: int = 0
    traceback: int = 0
    orphans: int = 0
    redone: int = 0
    needless: int = 0
    starts: list[float] = field(default_factory=list)
    skipped: str | None = None
    minutes: float = 0.0


COUNTS = tuple(kept.name for kept in fields(Tally) if isinstance(kept.default, int))


def report(kinds: Iterable[str], tallies: list[Tally]) -> None:
    """Print the table: a line for each kind, and one for all; and what it took."""
    print(f"| kind | sweeps | {' | '.join(COUNTS)} | s to the first epoch: median, most |")
    print("|---" * (len(COUNTS) + 3) + "|")
    for kind in kinds:
        _line(kind, [tally for tally in tallies if tally.kind == kind])
    _line("all", tallies)
    print(f"Minutes, of one sweep after the other: {sum(tally.minutes for tally in tallies):.0f}")


def _line(name: str, tallies: list[Tally]) -> None:
    own = [tally for tally in tallies if not tally.skipped]
    skipped = {tally.skipped for tally in tallies if tally.skipped}
    starts = [seconds for tally in own for seconds in tally.starts]
    told = f"{statistics.median(starts):.1f}, {max(starts):.1f}" if starts else "-"
    cells = [sum(getattr(tally, count) for tally in own) for count in COUNTS]
    print(f"| {name} | {len(own)} | {' | '.join(map(str, cells))} | {'; '.join(skipped) or told} |")

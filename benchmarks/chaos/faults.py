"""The faults, by kind. Each hits a victim and returns how often: 0 where there was nothing to hit.

After most of them the command ends, now or soon; after a worker's death or that of W&B's process
it goes on, and more can hit the same run.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial

from benchmarks.chaos.victim import HANGS, Process, Victim, until

Fault = Callable[[Victim, Process], int]
AT_ONCE = 4  # files that are damaged between two runs
BETWEEN = "file damaged"


def _signal_driver(number: signal.Signals, victim: Victim, process: Process) -> int:
    process.send_signal(number)
    process.wait(HANGS)
    return 1


def _kill_worker(victim: Victim, process: Process) -> int:
    return _kill(victim, victim.epochs()[-1].process)


def _kill_program(program: str, victim: Victim, process: Process) -> int:
    """End one of the processes that a run starts, once it has."""
    found = until(lambda: victim.process(program), process)
    return _kill(victim, found) if found else 0


def _kill(victim: Victim, process: int) -> int:
    try:
        os.kill(process, victim.draws.choice([signal.SIGKILL, signal.SIGTERM]))
    except ProcessLookupError:
        return 0
    return 1


def _fill_disk(victim: Victim, process: Process) -> int:
    """Leave no room where the sweep writes until its run has ended."""
    ballast = victim.folder / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        process.wait(HANGS)
    finally:
        ballast.unlink(missing_ok=True)
    return 1


def _damage_files(victim: Victim, process: Process) -> int:
    """Kill the driver if it runs; tear or garble files, each of a kind that is drawn first."""
    process.kill()
    process.wait()
    victim.note_results()
    for _ in range(AT_ONCE):
        kinds = filter(None, [sorted(victim.folder.glob(kind)) for kind in victim.files])
        victim.damage(victim.draws.choice(victim.draws.choice(list(kinds))))
    return AT_ONCE


# Those that take longest come first, so that at a campaign's end none is left to run alone.
KINDS: dict[str, Fault] = {
    "GCS": partial(_kill_program, "gcs_server"),
    "disk full": _fill_disk,
    "driver SIGINT": partial(_signal_driver, signal.SIGINT),
    "driver SIGTERM": partial(_signal_driver, signal.SIGTERM),
    "driver SIGKILL": partial(_signal_driver, signal.SIGKILL),
    "raylet": partial(_kill_program, "raylet"),
    "worker": _kill_worker,
    BETWEEN: _damage_files,
    "W&B": partial(_kill_program, "wandb-core"),
}

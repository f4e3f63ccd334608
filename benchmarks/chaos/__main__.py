"""Sweeps whose processes are killed, whose disk is full, whose files are damaged: what is lost?

    python -m benchmarks.chaos FOLDER --faults 200 --seed 0

Every sweep is hit by several faults of one kind at drawn moments, is run again after each that
ended it, and once more in peace; then it must equal a sweep that nothing disturbed. Three are on
their way side by side, since a driver that starts waits as much as it works. FOLDER keeps a line
for each sweep, so the same command goes on after a campaign that was stopped itself. With --plain a
script with Ray Tune's own means is hit (plain_script.py), in a FOLDER of its own.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.chaos.arc_sweep import ArcSweep
from benchmarks.chaos.campaign import clear, disturb
from benchmarks.chaos.faults import KINDS
from benchmarks.chaos.plain_tune import PlainTune
from benchmarks.chaos.tally import Tally, report
from benchmarks.chaos.victim import HANGS, Victim


def main() -> None:
    """Run what is missing of the campaign, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="faults for each sweep")
    parser.add_argument("--at-once", type=int, default=3, help="sweeps on their way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--plain", action="store_true", help="the same trainings by plain Ray Tune")
    options = parser.parse_args()
    # What was started in the background ignores Ctrl-C, and so would the drivers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sweep = ArcSweep(folder / "calm", folder / "cache", "calm", None)
    _complete(sweep)
    make: Callable[..., Victim]
    if options.plain:
        calm = PlainTune(folder / "calm-plain", "calm", sweep.sweep, None)
        _complete(calm)
        make = partial(PlainTune, sweep=sweep.sweep, calm=calm)
    else:
        make = partial(ArcSweep, cache=folder / "cache", calm=sweep.sweep)
    campaign = Campaign(folder / f"seed-{options.seed}.jsonl", options.faults, options.each)

    def disturb_some() -> None:
        while (number := campaign.next()) is not None:
            tally = Tally(number, options.kinds[number % len(options.kinds)])
            place, begin = folder / f"sweep-{number}", time.monotonic()
            clear(place)
            disturb(make(place, seed=f"{options.seed}/{number}"), tally, options.each)
            tally.minutes = (time.monotonic() - begin) / 60
            campaign.add(tally)

    with ThreadPoolExecutor(options.at_once) as pool:
        hitting = [pool.submit(disturb_some) for _ in range(options.at_once)]
        try:
            for each in hitting:
                each.result()
        except KeyboardInterrupt:
            print("sweeps that are on their way end first", file=sys.stderr, flush=True)
        finally:
            campaign.stop()
    report(options.kinds, campaign.tallies)


class Campaign:
    """The sweeps that were hit, one line of a file each, and those that are being hit."""

    def __init__(self, file: Path, faults: int, each: int) -> None:
        self._file, self._faults, self._each = file, faults, each
        file.touch()
        self.tallies = [Tally(**json.loads(line)) for line in file.read_text().splitlines()]
        self._running: set[int] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def next(self) -> int | None:
        """The number of a sweep to hit; None if those that are hit have faults enough."""
        with self._lock:
            expected = sum(tally.injected for tally in self.tallies)
            expected += self._each * len(self._running)
            if self._stopped or expected >= self._faults:
                return None
            begun = {tally.sweep for tally in self.tallies} | self._running
            number = next(number for number in count() if number not in begun)
            self._running.add(number)
            return number

    def stop(self) -> None:
        """Begin no further sweep."""
        self._stopped = True

    def add(self, tally: Tally) -> None:
        """Keep what became of a sweep."""
        with self._lock, self._file.open("a") as file:
            print(json.dumps(asdict(tally)), file=file)
            self._running.remove(tally.sweep)
            self.tallies.append(tally)
        print(tally, file=sys.stderr, flush=True)


def _complete(victim: Victim) -> None:
    """Run it undisturbed, unless it was."""
    if not victim.complete():
        victim.start().wait(HANGS)
    if not victim.complete():
        sys.exit(f"it doesn't even end undisturbed: see {victim.said}")


if __name__ == "__main__":
    main()

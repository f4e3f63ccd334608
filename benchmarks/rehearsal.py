"""A whole benchmark in small, watched: what thousands of trials cost the driver and the disk.

    python benchmarks/rehearsal.py [arc-sweep's --set options]

Runs sweeps/rehearsal.yaml and samples the driver's resident memory beside the number of finished
trials. Memory that grows with trials would show as a slope; what a trial leaves on disk is counted
at the end, and the leaderboard is built once more from the files alone.
"""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from orchestrator.spec import load

SPEC = "sweeps/rehearsal.yaml"
EVERY = 5.0  # seconds between samples
SHOWN = 10


def main() -> None:
    """Run, watch and print."""
    options = sys.argv[1:]
    folder = Path(load(SPEC, options[1::2]).place)
    command = ["arc-sweep", "run", SPEC, *options]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sweep:
        driver, samples = psutil.Process(sweep.pid), []
        while sweep.poll() is None:
            done = sum(1 for _ in (folder / "trials").glob("*.json"))
            samples.append((time.monotonic() - started, done, resident(driver)))
            time.sleep(EVERY)
    seconds = time.monotonic() - started
    print(f"exit code {sweep.returncode} after {seconds / 60:.1f} min")
    for elapsed, done, memory in samples[:: max(1, len(samples) // SHOWN)]:
        print(f"  {elapsed / 60:5.1f} min {done:6,} trials, driver {memory / 1e6:6.0f} MB")
    trials = sum(1 for _ in (folder / "trials").glob("*.json"))
    packs = sum(1 for _ in (folder / "packs").glob("*.json"))
    print(f"{trials:,} trials in {packs:,} packs: {60 * trials / seconds:.0f} trials a minute")
    for part in sorted(folder.iterdir()):
        files = [p for p in (part, *part.rglob("*")) if p.is_file() and not p.is_symlink()]
        size = sum(p.stat().st_size for p in files)
        print(f"  {part.name:20} {len(files):7,} files {size / 1e6:8.1f} MB")
    started = time.monotonic()
    subprocess.run(["arc-sweep", "leaderboard", folder], stdout=subprocess.DEVNULL, check=True)
    print(f"leaderboard from the files: {time.monotonic() - started:.1f} s")


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process, 0 once it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()

"""How long the leaderboard page of a full benchmark takes: to be written, and to be readable.

    python benchmarks/page.py

24 tasks, 12 methods, 4 backbones (1,152 studies of 5 trials), beside an empty page with the same
plotting library: what is left then is the browser's own work.
"""

import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from orchestrator.leaderboard.page import page
from tests.orchestrator.leaderboard.test_page import FGVC, VTAB, board, trials

ROUNDS = 5


def main() -> None:
    """Print medians over ROUNDS."""
    made = board({**VTAB, **FGVC}, [f"method_{i}" for i in range(12)], ["a", "b", "c", "d"])
    none = replace(made, rows=(), means=())
    results = trials(made)
    started = time.perf_counter()
    pages = {"full benchmark": page(made, results), "no studies": page(none, [])}
    print(f"both pages written in {time.perf_counter() - started:.2f} s")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, text in pages.items():
            path = Path(folder) / "page.html"
            path.write_text(text, encoding="utf-8")
            seconds = [opened(browser, path) for _ in range(ROUNDS)]
            size = len(text.encode()) / 1e6
            print(f"{name:15} {size:4.1f} MB, ready after {statistics.median(seconds):.2f} s")


def opened(browser: Browser, path: Path) -> float:
    """Seconds from navigation until the table and all plots are there."""
    tab = browser.new_page()
    started = time.perf_counter()
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    seconds = time.perf_counter() - started
    tab.close()
    return seconds


if __name__ == "__main__":
    main()

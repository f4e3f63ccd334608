"""What a person sees while a sweep runs: a live table on a terminal, lines elsewhere.

Only shows: nothing depends on it, and a fault in it never reaches the sweep.
"""

import contextlib
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from statistics import fmean

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from arc_train.hyperparameters.ranking import rank
from arc_train.hyperparameters.space import format_config
from arc_train.tasks.progress import Decoded, telling
from orchestrator.cluster.report import PackReport
from orchestrator.cost.forecast import Forecast
from orchestrator.search.selection import Candidate
from orchestrator.search.studies import SweepSearch
from orchestrator.store.pack import PackPlan
from orchestrator.store.result import Result, Study

ROWS = 14


class Progress:
    """The display of one run on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._running: dict[str, tuple[PackPlan, PackReport]] = {}
        self._best: dict[Study, Candidate] = {}
        self._tested: dict[Study, dict[str, float]] = {}
        self._statuses: dict[str, str] = {}
        self._images = 0
        self._started = time.monotonic()
        self._search: SweepSearch
        self._forecast: Forecast
        self._live: Live | None = None
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(Text(text, style="dim"))

    @contextlib.contextmanager
    def decoding(self, task: str) -> Iterator[Decoded]:
        """Tells how far a task's decoding is; quiet when there is nothing to decode."""
        images = 0
        with telling(task, self.console, self.say) as tell:

            def decoded(done: int, total: int) -> None:
                nonlocal images
                images = done
                tell(done, total)

            yield decoded
        if images:
            self.say(f"prepared {task}: {images:,} images")

    @contextlib.contextmanager
    def sweep(self, search: SweepSearch, forecast: Forecast) -> Iterator[None]:
        """Show the sweep until the block ends."""
        self._search, self._forecast = search, forecast
        self._started = time.monotonic()
        self._bar = self._bars.add_task("studies", total=len(search.studies))
        if not self.console.is_terminal:
            yield
            self._compare()
            return
        with Live(self._view(), console=self.console, refresh_per_second=4) as live:
            self._live = live
            yield
            self._refresh()
        self._live = None
        self._compare()

    def _compare(self) -> None:
        """Print how far the forecast was off."""
        if self._forecast.first and all(study.complete for study in self._search.studies):
            took = time.monotonic() - self._started
            first = self._forecast.first - self._started
            self.say(
                f"took {duration(took)}; the forecast after a tenth of the work was "
                f"{duration(first)} ({100 * (first / took - 1):+.0f} %)"
            )

    def pack_started(self, plan: PackPlan) -> None:
        """A pack was handed to the cluster."""
        report = PackReport(plan.id, 0, len(plan.trials), 0, 0.0, (), {}, False)
        self._running[plan.id] = (plan, report)
        self._refresh()

    def pack_reported(self, plan: PackPlan, report: PackReport, ended: list[Result]) -> None:
        """A pack moved on; `ended` are the trials that have a result now."""
        self._running[plan.id] = (plan, report)
        self._images += report.images
        for note in report.notes:
            self.say(f"{plan.kind} {plan.study}: {note}")
        self._forecast.running(plan, report.seconds, time.monotonic())
        self._ended(plan, ended)
        if report.done:
            self._running.pop(plan.id, None)
            self._forecast.ended(plan, time.monotonic())
            if not self.console.is_terminal:
                self._line(plan)
        self._refresh()

    def pack_failed(self, plan: PackPlan, given_up: list[Result], reason: str) -> None:
        """A pack's worker failed; its trials are given up, or (none) it is tried again."""
        self._running.pop(plan.id, None)
        self._ended(plan, given_up)
        what = f"FAILED, {len(given_up)} trials given up" if given_up else "failed, tried again"
        short = textwrap.shorten(reason, 200)
        self.console.print(Text(f"{plan.kind} {plan.study}: {what} ({short})", style="bold red"))
        self._refresh()

    def _ended(self, plan: PackPlan, results: list[Result]) -> None:
        """Take in results; a trial that ran again is reported again."""
        for result in results:
            self._statuses[result.id] = result.status
            if result.status != "done":
                continue
            if plan.kind == "final":
                if result.test_accuracy is not None:
                    self._tested.setdefault(plan.study, {})[result.id] = result.test_accuracy
                continue
            trial, best = Candidate.of(result), self._best.get(plan.study)
            if best is None or rank(trial)[0] < rank(best)[0]:
                self._best[plan.study] = trial

    def _score(self, study: Study) -> str:
        """A study's state: its best trial so far, or the mean of its finals."""
        if tested := self._tested.get(study):
            seeds = f"{len(tested)} seed{'s' * (len(tested) > 1)}"
            return f"test {fmean(tested.values()):.1f} % ({seeds})"
        if best := self._best.get(study):
            config = format_config(best.config)
            return f"val {best.val_accuracy:.1f} %  ({config})"
        return ""

    def _line(self, plan: PackPlan) -> None:
        trials = f"{len(plan.trials)} trials"
        self.console.print(
            f"{plan.kind} {plan.study}: {trials}, {self._score(plan.study)}", soft_wrap=True
        )

    def _refresh(self) -> None:
        done = sum(study.complete for study in self._search.studies)
        self._bars.update(self._bar, completed=done)
        if self._live is not None:
            self._live.update(self._view())

    def _name(self, study: Study) -> str:
        """A study's name, without the backbone where all studies have the same."""
        several = len({s.study.backbone for s in self._search.studies}) > 1
        return str(study) if several else f"{study.method} {study.task}"

    def _view(self) -> Group:
        seconds = max(1e-9, time.monotonic() - self._started)
        statuses = sorted(Counter(self._statuses.values()).items())
        counts = "  ".join(f"{count} {status}" for status, count in statuses)
        rate = f"{self._images / seconds:,.0f} training images/s"
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        running = {plan.study: (plan, report) for plan, report in self._running.values()}
        shown = [*running, *(s for s in reversed(self._best) if s not in running)][:ROWS]
        names = {study: self._name(study) for study in shown}
        # The best configuration is what may be cut where the terminal is narrow.
        table.add_column("study", no_wrap=True, min_width=max(map(len, names.values()), default=0))
        table.add_column("now", no_wrap=True, min_width=23 if running else 0)
        table.add_column("best so far", no_wrap=True)
        for study in shown:
            now = ""
            if study in running:
                plan, report = running[study]
                now = f"{plan.kind}: epoch {report.epoch}, {report.alive} alive"
            table.add_row(names[study], now, self._score(study))
        left = self._forecast.left(time.monotonic())
        time_left = "" if left is None else f"   about {duration(left)} left"
        if left is not None and self._forecast.first:
            first = self._forecast.first - self._started
            time_left += f" ({duration(seconds + left)} in all; first forecast {duration(first)})"
        counted = Text(f"trials: {counts or 'none yet'}   {rate}{time_left}")
        return Group(self._bars, counted, table)


def duration(seconds: float) -> str:
    """Seconds as text, in a unit that suits them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"

"""W&B runs as a projection of result files: one run per trial, written by one thread.

Nothing waits for W&B and nothing fails because of it: what went wrong is told at the end, and the
result files have everything. Which runs are written stands in `wandb/logged.jsonl`, a line for
each once it is finished, so that a sweep killed anywhere still ends with each trial exactly once.
What is written offline is written again online when that is asked for, under the same run id.
"""

import contextlib
import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from arc_train.outcome import CurveRow
from orchestrator.leaderboard.board import Board, plain_board
from orchestrator.store.adapter import check_adapter
from orchestrator.store.result import Result, TrialInfo
from orchestrator.tracking import runs
from orchestrator.tracking.journal import wait_for_end
from orchestrator.tracking.ledger import Ledger

PATIENCE = 30  # seconds for a server to answer at a run's start, and again at its end
GIVE_UP_AFTER = 3  # faults in a row once the sweep is over: a server that is down can't hold it
LONGEST = 4 * PATIENCE  # seconds that one run may take to write: more, and the client is stuck
LONGEST_PAUSE = 300  # seconds between faults while it runs: an outage is waited for, not lost


class Tracker:
    """Writes runs into `<sweep folder>/wandb/`; `problem` says what went wrong, if anything.

    mode: online, offline or disabled. project: the sweep's name unless given. groups: of the tasks.
    """

    def __init__(
        self,
        folder: Path,
        sweep: str,
        mode: str,
        project: str | None,
        entity: str | None,
        groups: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._where: dict[str, Any] = {"project": project or sweep, "entity": entity, "mode": mode}
        self._sweep, self._groups = sweep, groups
        self._queue: queue.SimpleQueue[Callable[[Ledger], None] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._missed: dict[str, Callable[[Ledger], None]] = {}
        self._began: float | None = None  # when what is being written now began
        self._live: dict[str, Any] = {}  # runs of trials in training, by id
        self._faults = 0
        self._fault: str | None = None
        self._thread: threading.Thread | None = None
        if mode != "disabled":
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()

    @property
    def problem(self) -> str | None:
        """What keeps results from being W&B runs, in a sentence."""
        return self._fault and f"W&B runs are missing: {self._fault}; the same command writes them"

    def rows(self, trial: TrialInfo, rows: Sequence[CurveRow]) -> None:
        """Show how a trial in training is doing, online only; returns at once."""
        if self._where["mode"] == "online":
            self._put(lambda ledger: self._show(trial, rows))

    def log(self, result: Result) -> None:
        """Queue an ended trial's run, unless it is written. Returns at once."""
        write = partial(self._write, result)
        self._put(partial(self._try, result.id, result.status, write))

    def board(self, board: Board, alert: str | None = None) -> None:
        """Queue the leaderboard's run, unless it is written. Returns at once.

        alert: what W&B tells the user with it, once for each state of the leaderboard.
        """
        if self._thread is None:
            return
        content = json.dumps(plain_board(board), sort_keys=True)
        trial = hashlib.sha256(f"{self._sweep}/leaderboard".encode()).hexdigest()[:16]
        write = partial(self._write_board, trial, board, alert)
        self._put(
            partial(self._try, trial, hashlib.sha256(content.encode()).hexdigest()[:16], write)
        )

    def close(self, timeout: float | None = None) -> None:
        """Wait until all is written, for at most `timeout` seconds, and while something moves."""
        if self._thread is None:
            return
        self._faults = 0  # whatever was, the end deserves a try
        self._closing.set()
        self._queue.put(None)
        closed = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.2)
            now = time.monotonic()
            stuck = self._began is not None and now - max(self._began, closed) > LONGEST
            if stuck or (timeout is not None and now - closed > timeout):
                self._faults = GIVE_UP_AFTER
                late = "W&B's client doesn't answer" if stuck else "there was no time to write them"
                self._fault = self._fault or late
                _abandon()
                return

    def _put(self, what: Callable[[Ledger], None]) -> None:
        if self._thread is not None:
            self._queue.put(what)

    def _work(self) -> None:
        try:
            ledger = Ledger(self._folder / "wandb", self._where["mode"])
        except OSError as error:
            self._fault = f"can't write {self._folder / 'wandb'}: {error.strerror}"
            return
        for write in iter(self._queue.get, None):
            self._began = time.monotonic()
            write(ledger)
            self._began = None
        for write in list(self._missed.values()):
            self._began = time.monotonic()
            write(ledger)
        self._began = None
        if self._live:  # interrupted: these go on with the next run, and have not finished
            _abandon()

    def _given_up(self) -> bool:
        return self._closing.is_set() and self._faults >= GIVE_UP_AFTER

    def _try(self, trial: str, state: str, write: Callable[[], str], ledger: Ledger) -> None:
        """Write a whole run, unless the ledger has it in this state."""
        if ledger.has(trial, state):
            return
        self._missed[trial] = partial(self._try, trial, state, write)
        if self._given_up():
            return
        try:
            if trial not in self._live:
                ledger.remove_run(trial)
            ledger.add(trial, state, write())
        except Exception as error:  # wandb raises whatever its service and server do
            self._failed(error)
        else:
            self._faults = 0
            del self._missed[trial]
            if not self._missed:
                self._fault = None

    def _failed(self, error: Exception) -> None:
        if self._given_up():  # the fault is that close() took the service away
            return
        self._faults += 1
        self._fault = " ".join(f"{type(error).__name__}: {error}".split())
        self._live.clear()
        _abandon()  # the service may be dead or hang: the next run starts another
        self._closing.wait(min(2**self._faults, LONGEST_PAUSE))

    def _show(self, trial: TrialInfo, rows: Sequence[CurveRow]) -> None:
        """Add rows to a live run, or begin one with a whole curve: W&B takes no earlier step later.

        After a fault nothing is live until results come through.
        """
        if self._faults or self._closing.is_set():
            return
        try:
            if trial.id not in self._live:
                if rows[0].epoch != 1:
                    return
                self._live[trial.id] = self._open(
                    runs.about_trial(trial, self._groups.get(trial.task))
                )
            runs.log_rows(self._live[trial.id], rows)
        except Exception as error:
            self._failed(error)
            self._fault = None  # the run itself is written when its result is there

    def _write(self, result: Result) -> str:
        """Write a trial's run, or what a live one lacks; returns its folder's name."""
        run = self._live.pop(result.id, None) or self._open(
            runs.about_trial(result, self._groups.get(result.task))
        )
        config = {"sweep": self._sweep, **runs.config(result, self._groups.get(result.task))}
        run.config.update(config, allow_val_change=True)  # a continued run would keep the old one
        runs.log_rows(run, result.curve)
        adapter = self._folder / "adapters" / f"{result.id}.safetensors"
        if result.kind == "final" and adapter.exists():
            check_adapter(adapter)
            runs.log_adapter(run, result, adapter)
        run.summary.update(runs.summary(result))
        return self._end(run, exit_code=int(result.status == "failed"))

    def _write_board(self, trial: str, board: Board, alert: str | None) -> str:
        about = {"id": trial, "name": f"leaderboard · {self._sweep}", "job_type": "leaderboard"}
        run = self._open(about)
        runs.log_board(run, board)
        if alert:
            run.alert(title=f"arc-sweep: {self._sweep}", text=alert)
        return self._end(run, exit_code=0)

    def _open(self, about: dict[str, Any]) -> Any:
        """A run that is new, or (online) that goes on where an earlier attempt left it."""
        import wandb  # slow to import, and not wanted at all where tracking is disabled

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            init_timeout=PATIENCE,
            finish_timeout=PATIENCE,
            finish_timeout_raises=True,
        )
        wandb.setup(settings=wandb.Settings(silent=True))  # the login, too, is silent then
        run = wandb.init(
            dir=str(self._folder),
            reinit="create_new",
            # A trial that failed, or whose driver was killed, may have a run on the server already;
            # with explicit steps it is continued, and rows it has are not doubled.
            resume="allow" if self._where["mode"] == "online" else None,
            settings=settings,
            **about,
            **self._where,
        )
        run.define_metric("epoch")
        # No summary from the rows: a diverged trial's last accuracy would be ranked as its result.
        run.define_metric("*", step_metric="epoch", summary="none")
        return run

    def _end(self, run: Any, exit_code: int) -> str:
        name = Path(run.dir).parent.name
        run.finish(exit_code=exit_code)
        if not (self._folder / "wandb" / name).is_dir():
            raise OSError(f"W&B wrote elsewhere: {run.dir}")
        wait_for_end(self._folder / "wandb" / name, PATIENCE)
        return name


@cache
def _silence_threads() -> None:
    """Silence the tracebacks of the client's threads, which end once its service is gone."""
    usual = threading.excepthook

    def hook(ended: threading.ExceptHookArgs) -> None:
        if not ended.exc_type.__module__.startswith("wandb."):
            usual(ended)

    threading.excepthook = hook


def _abandon() -> None:
    """End W&B's service at once. It would wait for its server, and the process for the service.

    There is no public way; should the private one change, leaving takes PATIENCE longer.
    """
    _silence_threads()
    # A client that is stuck holds locks that this needs.
    ending = threading.Thread(target=_end_service, name="wandb end", daemon=True)
    ending.start()
    ending.join(PATIENCE)


def _end_service() -> None:
    with contextlib.suppress(Exception):
        import wandb

        wandb.sdk.wandb_setup.singleton()._connection._proc._process.kill()
    with contextlib.suppress(Exception, SystemExit):  # it exits with the code of the killed service
        wandb.teardown()

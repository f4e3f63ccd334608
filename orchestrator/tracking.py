"""W&B runs as a projection of result files: one run per finished trial, written by one thread.

Nothing waits for W&B and nothing fails because of it: what went wrong is told at the end, and the
result files have everything. Which runs are written stands in `wandb/logged.jsonl`, a line for
each once it is finished, so that a sweep killed anywhere still ends with each trial exactly once.
"""

import configparser
import contextlib
import json
import netrc
import os
import queue
import shutil
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arc_train.tasks.catalog import catalog
from orchestrator.folder import Result
from orchestrator.space import shown

TAG_LENGTH = 64  # W&B refuses longer ones
PATIENCE = 30  # seconds for a server to answer at a run's start, and again at its end
GIVE_UP_AFTER = 3  # faults in a row once the sweep is over: a server that is down can't hold it
LONGEST_PAUSE = 300  # seconds between faults while it runs: an outage is waited for, not lost


def resolve_mode(mode: str) -> str:
    """The mode that `auto` stands for: online where credentials are, else offline.

    $WANDB_MODE and `wandb offline`, which W&B's users know, go before what is found.
    """
    if mode != "auto":
        return mode
    asked = os.environ.get("WANDB_MODE") or _saved("mode")
    if asked in ("online", "offline", "disabled"):
        return asked
    return "online" if _has_credentials() else "offline"


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    base = os.environ.get("WANDB_BASE_URL") or _saved("base_url") or "https://api.wandb.ai"
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(urlsplit(base).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _saved(setting: str) -> str:
    """What `wandb login --host` and `wandb offline` keep in W&B's own settings files."""
    everywhere = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    here = Path(os.environ.get("WANDB_DIR") or ".") / "wandb"
    saved = configparser.ConfigParser(interpolation=None, default_section="")
    with contextlib.suppress(OSError, UnicodeDecodeError, configparser.Error):
        saved.read([everywhere / "settings", here / "settings"])
    return saved.get("default", setting, fallback="")


class Tracker:
    """Writes runs into `<sweep folder>/wandb/`; `problem` says what went wrong, if anything.

    mode: online, offline or disabled. project: the sweep's name unless given.
    """

    def __init__(
        self, folder: Path, sweep: str, mode: str, project: str | None, entity: str | None
    ) -> None:
        self._folder = folder
        self._where: dict[str, Any] = {"project": project or sweep, "entity": entity, "mode": mode}
        self._sweep = sweep
        self._queue: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._missed: dict[str, Result] = {}
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

    def log(self, result: Result) -> None:
        """Have a finished trial's run written, unless it is. Returns at once."""
        if self._thread is not None:
            self._queue.put(result)

    def close(self, timeout: float | None = None) -> None:
        """Wait until all is written, for at most `timeout` seconds."""
        if self._thread is None:
            return
        self._faults = 0  # whatever was, the end deserves a try
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._faults = GIVE_UP_AFTER
            self._fault = self._fault or "there was no time to write them"
            _abandon()

    def _work(self) -> None:
        try:
            ledger = _Ledger(self._folder / "wandb")
        except OSError as error:
            self._fault = f"can't write {self._folder / 'wandb'}: {error.strerror}"
            return
        for result in iter(self._queue.get, None):
            self._try(result, ledger)
        for result in list(self._missed.values()):
            self._try(result, ledger)

    def _given_up(self) -> bool:
        return self._closing.is_set() and self._faults >= GIVE_UP_AFTER

    def _try(self, result: Result, ledger: "_Ledger") -> None:
        if ledger.has(result):
            return
        self._missed[result["id"]] = result
        if self._given_up():
            return
        try:
            ledger.remove_run(result["id"])
            ledger.add(result, self._where["mode"], self._write(result))
        except Exception as error:  # wandb raises whatever its service and server do
            if self._given_up():  # the fault is that close() took the service away
                return
            self._faults += 1
            self._fault = " ".join(f"{type(error).__name__}: {error}".split())
            _abandon()  # the service may be dead or hang: the next run starts another
            self._closing.wait(min(2**self._faults, LONGEST_PAUSE))
        else:
            self._faults = 0
            del self._missed[result["id"]]
            if not self._missed:
                self._fault = None

    def _write(self, result: Result) -> str:
        """Write one run whole; returns its folder's name."""
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
        group = catalog()[result["task"]].group
        run = wandb.init(
            id=result["id"],
            name=_name(result),
            group=f"{result['backbone']}/{result['method']}/{result['task']}",
            job_type=result["kind"],
            tags=[tag[:TAG_LENGTH] for tag in (group, result["method"], result["backbone"])],
            dir=str(self._folder),
            reinit="create_new",
            # A trial that failed, or whose driver was killed, may have a run on the server already;
            # with explicit steps it is continued, and rows it has are not doubled.
            resume="allow" if self._where["mode"] == "online" else None,
            settings=settings,
            **self._where,
        )
        config = {"sweep": self._sweep, "task_group": group, **_config(result)}
        run.config.update(config, allow_val_change=True)  # a continued run would keep the old one
        run.define_metric("epoch")
        # No summary from the rows: a diverged trial's last accuracy would be ranked as its result.
        run.define_metric("*", step_metric="epoch", summary="none")
        for row in result["curve"]:
            named = zip(("epoch", "train_loss", "val_loss", "val_accuracy"), row, strict=True)
            run.log({k: v for k, v in named if v is not None}, step=row[0])
        run.summary.update(_summary(result))
        name = Path(run.dir).parent.name
        run.finish(exit_code=int(result["status"] == "failed"))
        if not (self._folder / "wandb" / name).is_dir():
            raise OSError(f"W&B wrote elsewhere: {run.dir}")
        return name


class _Ledger:
    """Which trials have a finished run, and of which status the result was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "logged.jsonl"
        self._status: dict[str, str] = {}
        folder.mkdir(exist_ok=True)
        with self._path.open("a+", errors="replace") as file:  # also: may we write here?
            file.seek(0)
            text = file.read()
            if text and not text.endswith("\n"):  # torn when a driver was killed: close the line
                file.write("\n")
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                self._status[entry["id"]] = entry["status"]

    def has(self, result: Result) -> bool:
        """Whether this very result is logged: a repaired trial differs in its status."""
        return self._status.get(result["id"]) == result["status"]

    def remove_run(self, trial: str) -> None:
        """Remove what is left of an earlier attempt: one cut by a kill, or of a failed trial."""
        for run in self._folder.glob(f"*run-*-{trial}"):
            shutil.rmtree(run)

    def add(self, result: Result, mode: str, run: str) -> None:
        """Note a finished run, on disk before anything else happens."""
        entry = {"id": result["id"], "status": result["status"], "mode": mode, "run": run}
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._status[result["id"]] = result["status"]


def _abandon() -> None:
    """End W&B's service at once. Left alone it waits for its server, and the process for it.

    There is no public way; should the private one change, leaving takes PATIENCE longer.
    """
    with contextlib.suppress(Exception):
        import wandb

        wandb.sdk.wandb_setup.singleton()._connection._proc._process.kill()
    with contextlib.suppress(Exception, SystemExit):  # it exits with the code of the killed service
        wandb.teardown()


def _name(result: Result) -> str:
    """`arc · cifar100 · r50 lr0.003`, with the seed for a final."""
    short = {"rank": "r", "weight_decay": "wd", "dropout": "drop"}
    order = {"rank": 0, "lr": 1}
    config = sorted(result["config"].items(), key=lambda item: (order.get(item[0], 2), item[0]))
    parts = [f"{short.get(name, name)}{shown(value)}" for name, value in config]
    if result["kind"] == "final":
        parts.append(f"seed{result['seed']}")
    return f"{result['method']} · {result['task'].split('/')[-1]} · {' '.join(parts)}"


def _config(result: Result) -> dict[str, Any]:
    """Flat, since W&B's tables filter by single keys."""
    plain = ("kind", "backbone", "method", "task", "seed", "device")
    return {
        **{key: result[key] for key in plain},
        **result["config"],
        **{f"data_{key}": value for key, value in result["data"].items()},
        **{f"code_{key}": value for key, value in result["code"].items()},
        **{f"package_{key}": value for key, value in result["packages"].items()},
    }


def _summary(result: Result) -> dict[str, Any]:
    """What the leaderboard uses; `note` always, so that a repaired trial loses its failure's."""
    outcome = ("status", "epochs_run", "val_accuracy", "val_loss", "test_accuracy")
    size = ("trainable_params", "adapter_params", "seconds")
    known = {key: result[key] for key in (*outcome, *size) if result[key] is not None}
    return known | {"note": result["note"] or ""}

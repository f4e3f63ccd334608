"""W&B runs as a projection of result files: one run per finished trial, written by one thread.

Nothing waits for W&B and nothing fails because of it: what went wrong is told at the end, and the
result files have everything. Which runs are written stands in `wandb/logged.jsonl`, a line for
each once it is finished, so that a sweep killed anywhere still ends with each trial exactly once.
"""

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

TAG_LENGTH = 64  # W&B refuses longer ones
GIVE_UP_AFTER = 3  # faults in a row: a server that is down must not cost a minute per trial


def resolve_mode(mode: str) -> str:
    """The mode that `auto` stands for: online where credentials are, else offline.

    $WANDB_MODE, which W&B's users know, goes before what is found.
    """
    if mode != "auto":
        return mode
    asked = os.environ.get("WANDB_MODE", "")
    if asked in ("online", "offline", "disabled"):
        return asked
    return "online" if _has_credentials() else "offline"


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    base = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    path = os.environ.get("NETRC") or Path("~/.netrc").expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(urlsplit(base).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Tracker:
    """Writes runs into `<sweep folder>/wandb/`; `problem` says what went wrong, if anything.

    mode: online, offline or disabled. project: the sweep's name unless given.
    """

    def __init__(
        self, folder: Path, sweep: str, mode: str, project: str | None, entity: str | None
    ) -> None:
        self.problem: str | None = None
        self._folder = folder
        self._where = {"project": project or sweep, "entity": entity, "mode": mode}
        self._sweep = sweep
        self._queue: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if mode != "disabled":
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()

    def log(self, result: Result) -> None:
        """Have a finished trial's run written, unless it is. Returns at once."""
        if self._thread is not None:
            self._queue.put(result)

    def close(self, timeout: float | None = None) -> None:
        """Wait until all is written, for at most `timeout` seconds."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.problem = "W&B runs are not all written; the same command writes the rest"

    def _work(self) -> None:
        faults = 0
        try:
            ledger = _Ledger(self._folder / "wandb")
        except OSError as error:
            self.problem = f"no W&B runs: can't write {self._folder / 'wandb'}: {error.strerror}"
            return
        for result in iter(self._queue.get, None):
            if faults >= GIVE_UP_AFTER or ledger.has(result):
                continue
            ledger.remove_run(result["id"])
            try:
                ledger.add(result, self._write(result))
                faults = 0
            except Exception as error:  # wandb raises whatever its service and server do
                faults += 1
                self.problem = (
                    f"W&B runs are not all written ({type(error).__name__}: {error}); "
                    "the same command writes the rest"
                )
                with contextlib.suppress(Exception):
                    _wandb().teardown()  # its service may be dead: the next run starts another

    def _write(self, result: Result) -> str:
        """Write one run whole; returns its folder's name."""
        wandb = _wandb()
        group = catalog()[result["task"]].group
        run = wandb.init(
            id=result["id"],
            name=_name(result),
            group=f"{result['backbone']}/{result['method']}/{result['task']}",
            job_type=result["kind"],
            tags=[tag[:TAG_LENGTH] for tag in (group, result["method"], result["backbone"])],
            config={"sweep": self._sweep, "task_group": group, **_config(result)},
            dir=str(self._folder),
            reinit="create_new",
            # A trial that failed and was repaired later has a run already.
            resume="allow" if self._where["mode"] == "online" else None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                init_timeout=30,
            ),
            **self._where,
        )
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        for row in result["curve"]:
            named = zip(("epoch", "train_loss", "val_loss", "val_accuracy"), row, strict=True)
            run.log({name: value for name, value in named if value is not None})
        run.summary.update(_summary(result))
        name = Path(run.dir).parent.name
        run.finish(exit_code=int(result["status"] == "failed"))
        if not (self._folder / "wandb" / name).is_dir():
            raise OSError(f"W&B wrote elsewhere: {run.dir}")
        return name


class _Ledger:
    """Which trials have a finished run: id -> (status, the run's folder)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "logged.jsonl"
        folder.mkdir(exist_ok=True)
        self._runs: dict[str, tuple[str, str]] = {}
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            with contextlib.suppress(ValueError):  # the last line of a killed driver may be torn
                entry = json.loads(line)
                self._runs[entry["id"]] = (entry["status"], entry["run"])
        with self._path.open("a") as file:  # a torn line is closed, and we know now if we may write
            file.write("\n" if file.tell() else "")

    def has(self, result: Result) -> bool:
        """Whether this very result is logged: a repaired trial differs in its status."""
        return self._runs.get(result["id"], ("", ""))[0] == result["status"]

    def remove_run(self, trial: str) -> None:
        """Remove what an earlier attempt left on disk: begun before a kill, or of a failed trial.

        Online runs' folders are W&B's own business and stay.
        """
        for run in self._folder.glob(f"offline-run-*-{trial}"):
            shutil.rmtree(run)

    def add(self, result: Result, run: str) -> None:
        """Note a finished run, on disk before anything else happens."""
        entry = {"id": result["id"], "status": result["status"], "run": run}
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._runs[result["id"]] = (result["status"], run)


def _wandb() -> Any:
    import wandb  # slow to import, and not wanted at all where tracking is disabled

    return wandb


def _name(result: Result) -> str:
    """`arc · cifar100 · r50 lr0.003`, with the seed for a final."""
    short = {"rank": "r", "weight_decay": "wd", "dropout": "drop"}
    order = {"rank": 0, "lr": 1}
    config = sorted(result["config"].items(), key=lambda item: (order.get(item[0], 2), item[0]))
    parts = [f"{short.get(name, name)}{value:g}" for name, value in config]
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
    outcome = ("status", "note", "epochs_run", "val_accuracy", "val_loss", "test_accuracy")
    size = ("trainable_params", "adapter_params", "seconds")
    return {key: result[key] for key in (*outcome, *size) if result[key] is not None}

"""A run's connection to Ray: whatever Ray raises, or keeps it waiting for, becomes an answer."""

import contextlib
import gc
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ray

from arc_train.errors import InputError
from orchestrator.cluster.address import REACH, REMEDY, refusal, running_cluster
from orchestrator.cluster.interrupt import catch_interrupts
from orchestrator.cluster.scratch import end_processes

_ENVIRONMENT = {
    # Its loggers would write csv, json and tensorboard files per pack and keep them in memory.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # How many may wait is decided by the searcher, with the cluster's size of the moment.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    # Ctrl-C is ours: it must end with a resumable folder, not with advice on Tuner.restore.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A busy machine takes longer to start than Ray's 30 seconds.
    "RAY_raylet_start_wait_time_s": "60",
    # When its head is lost, Ray ends the driver's process without a word: later than we do.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
}
START, END = 300, 15  # seconds for Ray to start or be joined, and to end
STARTS = 5  # at most, within START
SILENT = 60  # seconds that the head of a cluster may be silent: it may be starting anew
OBJECTS = 100 * 2**20  # bytes of Ray's shared memory: packs pass on files, and little else
GIVEN_UP = 2  # the exit code of bad input


class ClusterLost(InputError):
    """The cluster's head died, or Ray's process on this node. What is finished is kept."""


@contextlib.contextmanager
def connection(scratch: Path) -> Iterator[None]:
    """A cluster: the running one (RAY_ADDRESS, or this node's), else one of our own.

    scratch: a folder with a short path.

    Raises:
        InputError: Ray can't be started or reached; says why. Where Ray neither starts nor says
            anything, the process ends with that answer.
        ClusterLost: the cluster's head, or Ray's process on this node, died while the block ran.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = running_cluster()
    where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
    with _within(START, f"{where} gave no sign in {START} seconds; {REMEDY}"):
        try:
            _init(address, scratch)
        except Exception as error:  # of many kinds, from Python and from below it
            reason = " ".join(str(error).split()) or type(error).__name__
            verb = "join" if address else "start"
            raise InputError(f"can't {verb} {where}: {reason[:500]}; {REMEDY}") from error
    catch_interrupts()  # again: Ray sets handlers of its own
    for part in ("ray", "ray.tune"):
        logging.getLogger(part).setLevel(logging.CRITICAL)  # failures are told by us
    head = _Head(_needed(), where, SILENT if address else REACH)
    try:
        # What Ray prints is no part of our output, which may be JSON.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if not head.lost and (not isinstance(error, Exception) or head.silent() is None):
            raise
        with _within(END, head.loss):  # it waits for the head, too
            _disconnect()
        raise ClusterLost(head.loss) from None
    finally:
        head.leave()
        _disconnect()


_KEPT = "what is finished is kept, and the same command goes on"


def _init(address: str | None, scratch: Path) -> None:
    """Join a cluster, or start one.

    A raylet gives the agents that it starts 15 seconds, and dies where a busy machine takes longer
    (ray-project/ray#65983). Then all is started anew: what was read from disk once is faster now.
    """
    for attempt in range(STARTS):
        try:
            return _init_once(address, scratch)
        except Exception as error:
            if address or attempt == STARTS - 1 or "timed out during startup" not in str(error):
                raise
            end_processes(scratch)


def _init_once(address: str | None, scratch: Path) -> None:
    own = {}
    if address is None:
        own = {"_temp_dir": str(scratch / "ray"), "object_store_memory": OBJECTS}
        # Ray keeps the token that it makes in the home folder.
        if not _writable(Path("~/.ray").expanduser()):
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    noted = address is not None and "RAY_ADDRESS" not in os.environ
    ray.init(
        address=None if noted else address or "local",  # Ray looks for the noted one's token
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        ignore_reinit_error=True,
        **own,
    )


def _disconnect() -> None:
    """Leave the cluster.

    Where a reference to one of Ray's objects is freed while Ray ends, Ray ends the whole process,
    with exit code 1 and no word; garbage collection, in any thread, frees such references.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _needed() -> tuple[str, ...]:
    """Where a driver's cluster must answer: its head, and the raylet of the driver's node."""
    context = ray.get_runtime_context()
    own = (node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    raylets = [f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in own]
    return context.gcs_address, *raylets


class _Head:
    """Watches whether a cluster is alive, and interrupts the main thread when it isn't.

    Without its node's raylet a driver would wait for ever: it can reach no worker.
    """

    def __init__(self, addresses: tuple[str, ...], where: str, patience: float) -> None:
        self.lost = False
        self._addresses, self._where = addresses, where
        self._patience, self._leaving = patience, threading.Event()
        threading.Thread(target=self._watch, name="ray head", daemon=True).start()

    def silent(self) -> str | None:
        """Where nothing answers."""
        return next((address for address in self._addresses if refusal(address)), None)

    @property
    def loss(self) -> str:
        """What has happened, for the user."""
        silent = self.silent() or " or ".join(self._addresses)
        return f"{self._where} has ended: nothing answers at {silent}; {_KEPT}"

    def leave(self) -> None:
        """Stop watching."""
        self._leaving.set()

    def _watch(self) -> None:
        silent = 0.0
        while not self._leaving.wait(2):
            silent = silent + 2 if self.silent() else 0.0
            if silent >= self._patience:
                self.lost = True
                os.kill(os.getpid(), signal.SIGINT)
                if not self._leaving.wait(END):  # it hangs where no signal reaches it
                    _give_up(self.loss)
                return


@contextlib.contextmanager
def _within(seconds: float, said: str) -> Iterator[None]:
    """End the process with an answer if the block, which nothing can interrupt, takes longer."""

    timer = threading.Timer(seconds, _give_up, [said])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(said: str) -> None:
    print(f"arc-sweep: {said}", file=sys.stderr, flush=True)
    os._exit(GIVEN_UP)

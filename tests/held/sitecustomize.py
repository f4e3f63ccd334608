"""Holds packs for tests. (Python runs this in every process that has this folder on PYTHONPATH.)

A pack that has one epoch behind it, its results written, its checkpoint saved, its report with the
driver, writes its process and host into a file in HELD_PACKS and waits until that file is gone.
With HELD_AT=start it waits before it is built instead. See tests/gate.py for the other side.

With GPU_IN_NAME set, packs train on the CPU of a node whose GPU exists for Ray alone.
"""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from wrapt import patch_function_wrapper, when_imported


def _hold(pack: str) -> None:
    host, process, folder = socket.gethostname(), os.getpid(), Path(os.environ["HELD_PACKS"])
    file, scratch = folder / pack, folder / f".{host}.{process}"
    try:
        scratch.write_text(json.dumps({"host": host, "process": process}))
        scratch.rename(file)
    except FileNotFoundError:  # the gate is open
        return
    while file.exists():
        time.sleep(0.02)


@when_imported("orchestrator.cluster.running_pack")
def _wrap(running_pack: Any) -> None:
    if os.environ.get("GPU_IN_NAME"):
        cpu = running_pack.device_of(0)
        running_pack.device_of = lambda gpus: cpu

    @patch_function_wrapper(running_pack, "RunningPack.__init__")
    def init(wrapped: Any, pack: Any, arguments: Any, named: Any) -> None:
        if os.environ.get("HELD_AT") == "start":
            _hold(arguments[1].id)
        wrapped(*arguments, **named)

    @patch_function_wrapper(running_pack, "RunningPack.advance")
    def advance(wrapped: Any, pack: Any, arguments: Any, named: Any) -> dict[str, Any]:
        if os.environ.get("HELD_AT") != "start" and pack.run.epoch == 1:
            _hold(pack.plan.id)
        report: dict[str, Any] = wrapped(0)  # an epoch to a step: the driver hears of each
        return report

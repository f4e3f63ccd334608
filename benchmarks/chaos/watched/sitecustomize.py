"""Notes each epoch of each pack. (Python runs this in every process that has this on PYTHONPATH.)

A line of the file WATCHED_EPOCHS: time, process, pack, epoch, and whether it was saved.
"""

import json
import os
import time
from typing import Any

from wrapt import patch_function_wrapper, when_imported


@when_imported("orchestrator.cluster.running_pack")
def _wrap(running_pack: Any) -> None:
    @patch_function_wrapper(running_pack, "RunningPack.advance")
    def advance(wrapped: Any, pack: Any, arguments: Any, named: Any) -> Any:
        before = pack._saved_at
        report = wrapped(0)  # an epoch to a step
        saved = report.done or pack._saved_at != before
        line = json.dumps([time.time(), os.getpid(), pack.plan.id, report.epoch, saved]) + "\n"
        with open(os.environ["WATCHED_EPOCHS"], "ab", buffering=0) as file:
            file.write(line.encode())
        return report

"""The worker: a Ray Tune class Trainable that runs one pack after another.

With reused actors the process keeps its frozen backbone between packs. What a pack needs to go on
lies in the sweep folder, so it makes no difference who died: the worker, its node or the driver.
"""

from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.slow_imports import slow_imports

if TYPE_CHECKING:
    from orchestrator.cluster.running_pack import RunningPack

# A report to Tune costs some milliseconds: short epochs are run several to a step.
REPORT_SECONDS = 1.0


class PackWorker(tune.Trainable):
    """Runs the pack in `config`; a step is at least one epoch."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the first pack on this worker."""
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another pack in the same process."""
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for a while; write the results of the trials that ended."""
        if self._fault is not None:
            raise self._fault
        return self.pack.advance(REPORT_SECONDS).to_tune()

    def _start(self, config: dict[str, Any]) -> None:
        """Start a pack. What keeps it from starting is raised by its first step: an error in a
        start reaches the driver as the death of an actor, its own words lost in a traceback."""
        self._fault: Exception | None = None
        try:
            with slow_imports():  # on a new worker: later it finds all there
                from orchestrator.cluster.running_pack import running_pack
            self.pack: RunningPack = running_pack(config)
        except Exception as error:
            self._fault = error

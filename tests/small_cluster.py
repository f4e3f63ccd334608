"""A Ray cluster of this process's own, beside which others may run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ray.cluster_utils import Cluster


@contextmanager
def small_cluster(cpus: int, gpus: int = 0) -> Iterator[Cluster]:
    """A head with so many CPUs, as long as the block runs; its GPUs exist for Ray alone.

    Ray's defaults are the same for all clusters of a machine: the port of the dashboard's agent
    (52365; a second cluster tries it for some seconds of the 30 that a node has to start) and the
    file with the address that drivers join.
    """
    head = {"num_cpus": cpus, "num_gpus": gpus}
    head |= {"include_dashboard": False, "dashboard_agent_listen_port": 0}
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # sockets want a short path
        with _temporary_files_in(scratch):
            cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        with _temporary_files_in(scratch):
            cluster.shutdown()


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        yield

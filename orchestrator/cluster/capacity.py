"""The capacity of the Ray cluster: what a pack asks for, whether it fits, how many to start.

`ray up` leaves its configuration on the head node, where the driver runs. If the file is there, the
cluster has an autoscaler, which adds nodes while packs wait.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ray
import yaml

from arc_train.device import MPS, hidden, unusable
from arc_train.errors import InputError
from orchestrator.cluster.interrupt import check_interrupts

BOOTSTRAP_CONFIG = Path("~/ray_bootstrap_config.yaml")
# Packs that wait beyond those that fit. One waiting pack keeps the workers busy; an autoscaler adds
# nodes for all waiting packs that it sees.
AHEAD, AHEAD_OF_AUTOSCALER = 1, 16
# How long machines that `ray up` starts are waited for, while it is open whether they have GPUs.
JOIN_SECONDS = 600.0

Node = dict[str, float]


def gpus_per_pack(asked: float | Literal["auto"], say: Callable[[str], None]) -> float:
    """The GPUs that a pack requests; auto: 1 where the cluster has some or could add some, else 0.

    say: prints a line for the user.

    Raises:
        InputError: this machine's GPU can't be used, or machines that may have one don't join.
    """
    reason = unusable()
    if asked == "auto":
        asked = 1.0 if _has_gpus(say) else 0.0
        if not asked and reason is None:
            raise InputError(
                "Ray counts no GPU in this cluster, but torch sees one on this machine: start Ray "
                "with --num-gpus=1, or train on CPUs with resources.gpu: 0"
            )
        if not asked:
            say(f"no GPU{f' ({reason})' if hidden() or reason == MPS else ''}: packs train on CPUs")
    if asked and reason and not hidden() and _own_node()["gpu"]:
        raise InputError(
            f"torch can't use the GPU of this machine: {reason}; mend that, or train on CPUs with "
            "resources.gpu: 0"
        )
    return asked


def _has_gpus(say: Callable[[str], None]) -> bool:
    """Whether a node has a GPU, or one that the autoscaler may add."""
    kinds, told, until = _node_types(), False, time.monotonic() + JOIN_SECONDS
    while not any(node["gpu"] for node in [*_nodes(), *(_node(kind.resources) for kind in kinds)]):
        # On-premise machines tell what they have when they join.
        expected = 1 + sum(kind.least for kind in kinds if not kind.resources)
        missing = expected - len(_nodes())
        if missing <= 0:
            return False
        machines = f"{missing} of {expected} machines"
        if time.monotonic() > until:
            raise InputError(
                f"{machines} have not joined the cluster, and may have GPUs: see `ray status`, or "
                "set resources.gpu to 0 or 1"
            )
        if not told:
            say(f"waiting for {machines}, which may have GPUs (resources.gpu: 0 doesn't wait)")
            told = True
        check_interrupts()
        time.sleep(1)
    return True


def _own_node() -> Node:
    """The resources of the node that this process runs on."""
    own = ray.get_runtime_context().get_node_id()
    return next(_node(node["Resources"]) for node in ray.nodes() if node["NodeID"] == own)


def check_fits(need: Mapping[str, float]) -> None:
    """Refuse packs that no node could ever hold, for which Tune would wait forever.

    need: the resources of a pack by the spec's keys, cpu and gpu.

    Raises:
        InputError: a pack asks for more than any node has; names the key and both amounts.
    """
    kinds = [kind.resources for kind in _node_types()]
    if {} in kinds:  # on-premise machines: their resources are known only after they have joined
        return
    nodes = _nodes() + [_node(resources) for resources in kinds]
    if any(_fit(node, need) for node in nodes):
        return
    most = {key: max(node[key] for node in nodes) for key in need}
    whose = "of this cluster, or that it could add," if kinds else "of this cluster"
    faults = [
        f"resources.{key}: each pack asks for {need[key]:g}, but no node {whose} has more than "
        f"{most[key]:g}"
        for key in need
        if need[key] > most[key]
    ]
    if not faults:
        asked = " and ".join(f"{key} {amount:g}" for key, amount in need.items())
        faults = [f"resources: each pack asks for {asked}, but no node {whose} has both"]
    raise InputError("\n".join(faults))


def desired_packs(need: Mapping[str, float]) -> int:
    """How many packs should run or wait on the cluster as it is now."""
    fitting = sum(_fit(node, need) for node in _nodes())
    return fitting + (AHEAD_OF_AUTOSCALER if _node_types() else AHEAD)


def _nodes() -> list[Node]:
    return [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _node(resources: Mapping[str, float]) -> Node:
    return {key: resources.get(key.upper(), 0) for key in ("cpu", "gpu")}


def _fit(node: Node, need: Mapping[str, float]) -> int:
    return int(min(node[key] / amount for key, amount in need.items() if amount))


@dataclass(frozen=True)
class _NodeType:
    """What the autoscaler may add. resources: empty where they are known only to the machines.

    least: how many there always are.
    """

    resources: Mapping[str, float]
    least: int


def _node_types() -> list[_NodeType]:
    """The types of nodes that the autoscaler may add; none without autoscaler."""
    try:
        launched = yaml.safe_load(BOOTSTRAP_CONFIG.expanduser().read_text())
    except OSError:
        return []
    types = launched["available_node_types"].values()
    return [
        _NodeType(kind.get("resources", {}), kind.get("min_workers", 0))
        for kind in types
        if kind.get("max_workers", 1)
    ]

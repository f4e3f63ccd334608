"""The capacity of the Ray cluster: whether a pack fits on a node, and how many packs to start.

`ray up` leaves its configuration on the head node, where the driver runs. If the file is there, the
cluster has an autoscaler, which adds nodes while packs wait.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import yaml

from arc_train.errors import InputError

BOOTSTRAP_CONFIG = Path("~/ray_bootstrap_config.yaml")
# Packs that wait beyond those that fit. One waiting pack keeps the workers busy; an autoscaler adds
# nodes for all waiting packs that it sees.
AHEAD, AHEAD_OF_AUTOSCALER = 1, 16

Node = dict[str, float]


def check_fits(need: Mapping[str, float]) -> None:
    """Refuse packs that no node could ever hold, for which Tune would wait forever.

    need: the resources of a pack by the spec's keys, cpu and gpu.

    Raises:
        InputError: a pack asks for more than any node has; names the key and both amounts.
    """
    kinds = _node_types()
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


def _node_types() -> list[dict[str, Any]]:
    """The resources of each node type that the autoscaler may add; empty without autoscaler."""
    try:
        launched = yaml.safe_load(BOOTSTRAP_CONFIG.expanduser().read_text())
    except OSError:
        return []
    types = launched["available_node_types"].values()
    return [kind.get("resources", {}) for kind in types if kind.get("max_workers", 1)]

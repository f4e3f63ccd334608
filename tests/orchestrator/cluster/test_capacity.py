"""What a real Ray cluster of two nodes, one of them joining late, is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from arc_train.errors import InputError
from orchestrator.cluster import capacity
from tests.small_cluster import small_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A head with one CPU."""
    with small_cluster(1) as started:
        ray.init(address=started.address, log_to_driver=False)
        yield started
        ray.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Where this process used Ray before, a machine that joins must find the token that Ray made.
    (tmp_path / ".ray").symlink_to(Path("~/.ray").expanduser())
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def launched(home: Path, *types: dict[str, Any]) -> None:
    """As `ray up` leaves it on the head."""
    content = {"available_node_types": {f"type {i}": kind for i, kind in enumerate(types)}}
    (home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(content))


def test_what_no_node_can_hold_is_refused(nodes: Cluster) -> None:
    capacity.check_fits({"cpu": 1, "gpu": 0})
    with pytest.raises(InputError) as refused:
        capacity.check_fits({"cpu": 3, "gpu": 0.5})
    of_cpu, of_gpu = str(refused.value).splitlines()
    assert of_cpu.endswith("each pack asks for 3, but no node of this cluster has more than 1")
    assert of_gpu.startswith("resources.gpu: each pack asks for 0.5")


def test_what_the_autoscaler_could_bring_counts(nodes: Cluster, home: Path) -> None:
    gpu = {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 4}
    launched(home, {"resources": {"CPU": 0}, "max_workers": 0}, gpu)
    capacity.check_fits({"cpu": 8, "gpu": 1})
    with pytest.raises(InputError, match="or that it could add, has more than 1"):
        capacity.check_fits({"cpu": 8, "gpu": 2})
    launched(home, {"resources": {"CPU": 16}, "max_workers": 4}, {**gpu, "max_workers": 0})
    with pytest.raises(InputError, match=r"resources.gpu: .* has more than 0"):
        capacity.check_fits({"cpu": 1, "gpu": 1})
    cpus = {"resources": {"CPU": 64}, "max_workers": 1}
    launched(home, gpu, cpus)
    with pytest.raises(InputError, match=r"asks for cpu 16 and gpu 1, but no node .* has both"):
        capacity.check_fits({"cpu": 16, "gpu": 1})


def test_machines_that_are_only_known_when_they_join_are_waited_for(
    nodes: Cluster, home: Path
) -> None:
    launched(home, {"resources": {}, "max_workers": 2})
    capacity.check_fits({"cpu": 64, "gpu": 8})


def test_auto_is_a_gpu_where_the_cluster_has_some_or_could_add_some(
    nodes: Cluster, home: Path
) -> None:
    said: list[str] = []
    assert capacity.gpus_per_pack("auto", said.append) == 0
    assert said == ["no GPU: packs train on CPUs"]
    launched(home, {"resources": {"CPU": 8, "GPU": 4}, "max_workers": 2})
    assert capacity.gpus_per_pack("auto", said.append) == 1, "none is up yet"
    launched(home, {"resources": {"CPU": 8, "GPU": 4}, "max_workers": 0})
    assert capacity.gpus_per_pack("auto", said.append) == 0
    machine = nodes.add_node(num_cpus=1, num_gpus=1)
    assert capacity.gpus_per_pack("auto", said.append) == 1
    assert [capacity.gpus_per_pack(asked, said.append) for asked in (0, 0.5)] == [0, 0.5]
    nodes.remove_node(machine)
    nodes.wait_for_nodes(timeout=600)
    assert len(said) == 2


def test_machines_that_have_not_joined_may_have_gpus(
    nodes: Cluster, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(home, {"resources": {}, "min_workers": 1, "max_workers": 1})
    joined: list[Any] = []

    def join(line: str) -> None:
        assert "waiting for 1 of 2 machines, which may have GPUs" in line
        joined.append(nodes.add_node(num_cpus=1, num_gpus=1, wait=False))

    assert capacity.gpus_per_pack("auto", join) == 1
    nodes.remove_node(joined.pop())
    nodes.wait_for_nodes(timeout=600)
    monkeypatch.setattr(capacity, "JOIN_SECONDS", 0)
    with pytest.raises(InputError, match=r"1 of 2 machines have not joined .* to 0 or 1"):
        capacity.gpus_per_pack("auto", lambda line: None)


def test_a_gpu_that_ray_does_not_count_is_not_passed_over(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "unusable", lambda: None)
    with pytest.raises(InputError, match="torch sees one on this machine"):
        capacity.gpus_per_pack("auto", lambda line: None)


def test_more_packs_are_wanted_as_nodes_join_and_fewer_as_they_go(
    nodes: Cluster, home: Path
) -> None:
    need = {"cpu": 2.0, "gpu": 0.0}
    assert capacity.desired_packs(need) == capacity.AHEAD
    second = nodes.add_node(num_cpus=5, wait=False)
    nodes.wait_for_nodes(timeout=600)
    assert capacity.desired_packs(need) == 2 + capacity.AHEAD
    launched(home, {"resources": {"CPU": 5}, "max_workers": 4})
    assert capacity.desired_packs(need) == 2 + capacity.AHEAD_OF_AUTOSCALER
    nodes.remove_node(second)
    nodes.wait_for_nodes(timeout=600)
    assert capacity.desired_packs(need) == capacity.AHEAD_OF_AUTOSCALER

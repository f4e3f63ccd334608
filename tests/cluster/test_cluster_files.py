"""The cluster files, by Ray's own schema and preparation, and by what a run on them needs."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

TOP = Path(__file__).parents[2]
FILES = ("cluster.yaml", "cluster-local.yaml")


def prepared(name: str) -> dict[str, Any]:
    """As `ray up` sees it, before it asks the cloud."""
    config: dict[str, Any] = prepare_config(yaml.safe_load((TOP / name).read_text()))
    return config


def commands(config: dict[str, Any], of: str) -> list[str]:
    return [*config["setup_commands"], *config[f"{of}_setup_commands"]]


def starts(config: dict[str, Any]) -> list[str]:
    return [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(prepared(name))


def test_ray_refuses_what_is_misspelt() -> None:
    config = prepared("cluster.yaml")
    config["max_worker"] = 8
    with pytest.raises(Exception, match="max_worker"):
        validate_config(config)


@pytest.mark.parametrize("name", FILES)
def test_this_project_goes_to_every_node_and_is_installed_there(name: str) -> None:
    config = prepared(name)
    (there, here), *_ = config["file_mounts"].items()
    assert (TOP / here / "pyproject.toml").exists()
    install = f"pip install -q -e ~/'{there.removeprefix('~/')}[cluster]'"  # no ~ within quotes
    installs = [c for c in config["setup_commands"] if install in c]
    assert len(installs) == 1
    project = (TOP / "pyproject.toml").read_text()
    assert re.search(r'^cluster = \[.*"ray\[default,tune\]', project, re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_every_command_is_valid_shell(name: str) -> None:
    config = prepared(name)
    for command in [*commands(config, "head"), *commands(config, "worker"), *starts(config)]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("name", FILES)
def test_nothing_secret_and_nothing_left_to_fill_in(name: str) -> None:
    text = (TOP / name).read_text()
    values = json.dumps(prepared(name))
    secrets = r"AKIA[0-9A-Z]{16}|aws_secret|hf_[A-Za-z]{10}|-----BEGIN|\b[0-9a-f]{40}\b"
    assert not re.search(secrets, text)
    assert not re.search(r"\{\{|<[A-Za-z_ -]+>|\bYOUR|\bTODO|CHANGE_?ME|[xX]{4}", values)


@pytest.mark.parametrize("name", FILES)
def test_nobody_gets_in_without_the_token_which_the_file_does_not_hold(name: str) -> None:
    config = prepared(name)
    token = "~/.ray/auth_token"
    assert config["file_mounts"][token] == token
    setup = " ".join(config["setup_commands"])
    assert f"chmod 600 {token}" in setup
    assert "RAY_AUTH_MODE=token" in setup
    assert "RAY_AUTH_TOKEN" not in (TOP / name).read_text()
    assert "ray get-auth-token --generate" in (TOP / name).read_text()


def test_only_ssh_is_open_and_the_dashboard_stays_inside() -> None:
    config = prepared("cluster.yaml")
    assert "security_group" not in config["provider"], "Ray's own lets in ssh alone"
    assert not any("dashboard-host" in command for command in starts(config))


def test_the_cloud_pays_for_gpus_on_spot_only_while_they_work() -> None:
    config = prepared("cluster.yaml")
    head, gpu = (config["available_node_types"][kind] for kind in ("head", "gpu"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, config["max_workers"])
    assert config["idle_timeout_minutes"] > 0


def test_workers_are_made_from_the_image_that_the_head_runs(tmp_path: Path) -> None:
    config = prepared("cluster.yaml")
    here = tmp_path / "ray_bootstrap_config.yaml"
    here.write_text(json.dumps(config))  # how the launcher writes it
    (command,) = [c for c in config["head_start_ray_commands"] if c.startswith("sed")]
    command = command.replace("$(ec2metadata --ami-id)", "ami-0123456789abcdef0")
    subprocess.run(["bash", "-c", command.replace("~/", shlex.quote(f"{tmp_path}/"))], check=True)
    kinds = yaml.safe_load(here.read_text())["available_node_types"].values()
    assert {kind["node_config"]["ImageId"] for kind in kinds} == {"ami-0123456789abcdef0"}


def test_machines_of_ones_own_are_started_by_the_autoscaler_that_can() -> None:
    (start,) = [c for c in starts(prepared("cluster-local.yaml")) if "--head" in c]
    assert "RAY_enable_autoscaler_v2=0" in start


@pytest.mark.parametrize("name", FILES)
def test_what_the_full_benchmark_asks_the_environment_for_is_set(name: str) -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", (TOP / "sweeps/full_benchmark.yaml").read_text()))
    setup = " ".join(prepared(name)["setup_commands"])
    assert asked
    assert all(f"{variable}=" in setup for variable in asked)

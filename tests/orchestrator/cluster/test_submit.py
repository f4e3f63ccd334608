"""What `arc-sweep run --submit` refuses without a cluster. (With one: tests/cluster.)"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli import main

SPEC: dict[str, Any] = {
    "name": "small",
    "tasks": ["demo/digits"],
    "methods": ["linear"],
    "storage": "${SOMETHING_OF_THE_CLUSTER}/results",
    "backbones": [{"model": "vit_tiny_patch16_224", "weights": "/only/there.safetensors"}],
    "data": {"root": "~/vtab-1k"},
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # what the command sets is taken back


def refused(
    spec: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> list[str]:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(spec))
    assert main(["run", str(file), "--submit", *more]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_paths_and_variables_of_the_cluster_are_no_fault_but_a_missing_one_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = refused(SPEC, tmp_path, capsys)
    assert said.startswith("arc-sweep: no Ray dashboard at http://127.0.0.1:9: ")
    assert "`ray dashboard cluster.yaml`" in said


def test_the_option_goes_before_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = refused(SPEC, tmp_path, capsys, "10.0.0.1:6379")
    assert "at 10.0.0.1:6379: expected an address such as http://127.0.0.1:8265" in said
    (said,) = refused(SPEC, tmp_path, capsys, "http://127.0.0.1:10")
    assert "at http://127.0.0.1:10" in said


def test_relative_paths_are_refused_each_with_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {
        **SPEC,
        "backbones": [{"model": "vit_tiny_patch16_224", "weights": "model.safetensors"}],
        "data": {"root": "vtab-1k", "cache": "cache"},
    }
    del spec["storage"]
    said = refused(spec, tmp_path, capsys)
    keys = ["storage 'results'", "data.root 'vtab-1k'", "data.cache 'cache'"]
    keys.append("backbones[0].weights 'model.safetensors'")
    assert len(said) == len(keys)
    for line, key in zip(said, keys, strict=True):
        assert f"{key} is relative, but the sweep runs on the cluster" in line


def test_the_rest_of_the_file_is_checked_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = refused(SPEC, tmp_path, capsys, "--set", "methods=[ark]")
    assert "unknown method 'ark' at methods[0]" in said
    (said,) = refused(SPEC, tmp_path, capsys, "--json")
    assert "--json doesn't go with --submit" in said


def test_own_images_must_lie_where_every_node_sees_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near = [
        {"name": "a", "folder": "beans"},
        {"name": "b", "list": "there/beans.csv"},
        {"name": "c", "dataset": "./beans"},
    ]
    lines = refused(SPEC | {"tasks": near}, tmp_path, capsys)
    assert [line.split("' is relative")[0].removeprefix("arc-sweep: ") for line in lines] == [
        "tasks[0].folder 'beans",
        "tasks[1].list 'there/beans.csv",
        "tasks[2].dataset './beans",
    ]
    far = [{"name": "a", "folder": "~/beans"}, {"name": "b", "dataset": "user/beans"}]
    assert "no Ray dashboard" in refused(SPEC | {"tasks": far}, tmp_path, capsys)[0]

"""A method outside the package goes through a whole sweep; results name its source."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from orchestrator.cli import main
from tests.sweeps import Sweep

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_cluster")]

EXAMPLES = Path(__file__).parents[2] / "examples"
IA3 = "my_methods.ia3"


def test_a_method_outside_the_package_goes_through_a_whole_sweep(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    package = tmp_path / "path" / "my_methods"
    shutil.copytree(EXAMPLES / "my_methods", package)
    monkeypatch.syspath_prepend(str(package.parent))
    sweep.write(
        sweep.spec | {"tasks": ["demo/digits"], "methods": [IA3], "wandb": {"mode": "disabled"}}
    )
    assert main(["run", str(sweep.file)]) == 0
    results = sweep.results()
    assert Counter(result["status"] for result in results.values()) == {"done": 3, "stopped": 2}
    (digest,) = {result["code"]["method"] for result in results.values()}
    assert len(digest) == 16
    board = json.loads((sweep.folder / "leaderboard.json").read_text())
    assert [row["method"] for row in board["rows"]] == [IA3]
    out = tmp_path / "out"
    study = f"tiny/{IA3}/demo/digits"
    assert main(["export", str(sweep.folder), study, "-o", str(out)]) == 0
    assert "ia3.0.kv" in load_file(out / "adapter.safetensors")
    assert main(["export", str(sweep.folder), study, "-o", f"{out}-plain", "--fold"]) == 0

    # The same command again trains nothing; with another source its results don't stand here.
    written = sweep.written()
    assert main(["run", str(sweep.file)]) == 0
    assert sweep.written() == written
    with (package / "ia3.py").open("a") as file:
        file.write("# changed\n")
    capsys.readouterr()
    assert main(["run", str(sweep.file)]) == 2
    err = capsys.readouterr().err
    assert f"holds results of method '{IA3}' made with another source ({digest}, now" in err
    assert err.count("\n") == 1


def test_what_the_method_does_wrong_is_told_before_anything_trains(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    package = tmp_path / "path" / "faulty"
    package.mkdir(parents=True)
    (package / "method.py").write_text(
        "def attach(backbone, parts): backbone.nose\nfold = attach\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    sweep.write(sweep.spec | {"methods": ["faulty.method"]})
    assert main(["run", str(sweep.file)]) == 2
    err = capsys.readouterr().err
    assert "method 'faulty.method' can't adapt backbone 'tiny': AttributeError:" in err
    assert err.count("\n") == 1

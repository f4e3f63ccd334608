"""The programs in examples/ run and print what they promise."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
from safetensors.torch import load_file

from arc_train.backbones import ARC_PICO

TOP = Path(__file__).parents[1]


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    def run(example: str, *arguments: str) -> str:
        program = str(TOP / "examples" / example)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        runpy.run_path(program, run_name="__main__")
        return capsys.readouterr().out

    return run


def test_adapt_a_model(tmp_path: Path, printed: Callable[..., str]) -> None:
    text = printed("adapt_a_model.py", str(tmp_path), "--steps", "20")
    assert "same logits" in text
    assert float(text.split()[2]) > 30  # chance is 10 %
    adapter = load_file(tmp_path / "adapter.safetensors")
    assert {"arc.attn.down", "arc.mlp.down", "head.weight"} <= set(adapter)
    plain = timm.create_model(ARC_PICO.model, num_classes=10, **ARC_PICO.args)
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))


def test_read_results(printed: Callable[..., str]) -> None:
    folder = TOP / "tests" / "assets" / "sweep-version-1"
    header, *rows = printed("read_results.py", str(folder)).splitlines()
    assert header.split()[:4] == ["task", "method", "kind", "status"]
    assert len(rows) == len(list((folder / "trials").glob("*.json")))
    best = next(row for row in rows if row.startswith("demo/digits  arc     search"))
    assert best.split()[3:6] == ["done", "4", "72.5"]


def test_search_in_a_notebook(printed: Callable[..., str]) -> None:
    *_, final, plain = printed("search_in_a_notebook.py").splitlines()
    assert "% of 400 test images, 2 seeds, trained on 600 images" in final
    assert plain == "VisionTransformer with 10 classes"

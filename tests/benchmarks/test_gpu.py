"""benchmarks/gpu.py runs to its end without a GPU, and one part's failure costs no other part."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, imported as it is when it runs: beside its neighbours."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


def report(gpu: ModuleType, folder: Path, *parts: str, budget: float = 30_000) -> dict[str, Any]:
    out = folder / "gpu.json"
    gpu.main(["--toy", "--out", str(out), "--budget", str(budget), "--parts", *parts])
    parts_of: dict[str, Any] = json.loads(out.read_text())["parts"]
    return parts_of


def test_all_that_needs_one_process_is_measured(
    gpu: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Padded, grouped and one by one; that every method packs exactly has tests of its own.
    methods = ("arc", "vpt_deep", "partial")
    assert set(methods) <= set(gpu.TRAINED)
    monkeypatch.setattr(gpu, "TRAINED", methods)
    names = [name for name in gpu.PARTS if name != "side_by_side"]
    parts = report(gpu, tmp_path, *names)
    assert list(parts) == names
    rows = [row for name in names for row in parts[name]]
    assert not [row for row in rows if "error" in row]
    assert capsys.readouterr().out.count("\n") == len(rows)
    assert parts["device"][0]["tflops"] > 0
    compared = {(row["model"], row["method"]) for row in parts["equality"]}
    assert len(compared) == 2 * len(methods)
    assert all(row["equal"] for row in parts["equality"])
    step = parts["steps"][0]
    assert step["ms_trial"] == pytest.approx(step["ms"] / step["trials"], abs=0.01)
    stepped = parts["steps"] + parts["captured"]
    assert {row["used"] for row in stepped} == {"eager"}
    assert all("graph" in row["problem"] for row in stepped if row["execution"] != "eager")
    assert [row["trials"] for row in parts["linear"]] == [1, 40]
    assert [row["pack"] for row in parts["study"]] == ["search 1", "search 2", "finals"]
    assert max(parts["study"][0]["epochs"]) == 2


def test_a_failure_is_recorded_and_the_rest_goes_on(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = gpu.packs.evaluate

    def fails(scene: Any, trials: int) -> Any:
        if trials > 1:
            raise RuntimeError("CUDA error:\n an illegal memory access")
        return measure(scene, trials)

    monkeypatch.setattr(gpu.packs, "evaluate", fails)
    parts = report(gpu, tmp_path, "evaluation", "device")
    failed, measured = parts["evaluation"]
    assert failed["error"] == "RuntimeError: CUDA error: an illegal memory access"
    assert failed["trials"] == 2
    assert measured["images_trials_a_second"] > 0
    assert parts["device"][0]["tflops"] > 0


def test_what_the_time_is_too_short_for_is_recorded(gpu: ModuleType, tmp_path: Path) -> None:
    parts = report(gpu, tmp_path, "linear", "study", budget=0)
    left = {name: rows[0]["error"].rpartition(" for ")[2] for name, rows in parts.items()}
    assert left == {"linear": "2 measurements", "study": "3 measurements"}


def test_what_takes_too_long_is_cut_off_and_recorded(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*_: object) -> None:
        with contextlib.suppress(TimeoutError):  # as it is lost in a destructor
            _sleep()
        _sleep()

    monkeypatch.setattr(gpu.packs, "search", endless)
    interrupted, others = report(gpu, tmp_path, "study", budget=2)["study"]
    assert interrupted["error"].startswith("TimeoutError")
    assert others["error"].endswith(" 2 measurements")


def _sleep() -> None:
    while True:
        time.sleep(0.01)


@pytest.mark.slow
def test_packs_run_side_by_side(gpu: ModuleType, tmp_path: Path) -> None:
    alone, both = report(gpu, tmp_path, "side_by_side")["side_by_side"]
    assert (alone["processes"], both["processes"]) == (1, 2)
    assert both["trial_steps_a_second"] > 0


def test_a_process_that_dies_is_told(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.packs, "_train_beside_others", sys.exit)  # which takes fewer arguments
    rows = report(gpu, tmp_path, "side_by_side")["side_by_side"]
    assert {row["error"] for row in rows} == {"RuntimeError: a process ended with code 1"}


def test_it_imports_neither_ray_nor_wandb_nor_the_orchestrator(gpu: ModuleType) -> None:
    """A machine that is lent may have torch and timm only."""
    blocked = "ray, wandb, orchestrator, datasets, optuna, pyarrow, pydantic, sklearn"
    code = (
        f"import sys; [sys.modules.__setitem__(name, None) for name in {blocked.split(', ')}];"
        f"sys.path.insert(0, {str(BENCHMARKS)!r}); import gpu"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

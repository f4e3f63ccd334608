"""Estimates are arithmetic that a person can redo."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_train.errors import InputError
from orchestrator.cli import main
from orchestrator.cost.estimate import UTILISATION, assumed, estimate, measured, size
from orchestrator.cost.work import cost, work
from orchestrator.plan import studies
from orchestrator.spec import Spec, dump, resolve
from orchestrator.store.folder import SweepFolder
from tests.results import result

SIZES = {"demo/digits": (100, 20, 50), "demo/count": (200, 10, 1000)}
VIT_B = {"name": "b16", "model": "vit_base_patch16_224", "weights": "random"}


def spec(**changes: Any) -> Spec:
    raw = {
        "name": "x",
        "tasks": ["demo/digits"],
        "methods": ["arc"],
        "backbones": ["arc_pico"],
        "search": {"trials": 4, "halving": None},
        "training": {"epochs": 10, "warmup_epochs": 1},
        "finals": {"seeds": [0, 1]},
    }
    return resolve({**raw, **changes}, "x")


def test_a_vit_b_takes_the_flop_that_papers_state() -> None:
    (entry,) = spec(backbones=[VIT_B]).backbones
    assert size(entry.backbone()).flop == pytest.approx(2 * 17.58e9, rel=0.01)


@pytest.mark.parametrize(("method", "passes"), [("linear", 1), ("arc", 2), ("full", 3)])
def test_hours_and_money_by_hand(method: str, passes: int) -> None:
    """4 trials of 100 images and 2 finals of 120, 10 epochs each; validated and tested once."""
    one = spec(methods=[method])
    flop = size(one.backbones[0].backbone()).flop
    images = passes * (4 * 10 * 100 + 2 * 10 * 120) + 4 * 20 + 2 * 50
    hours = images * flop / (312e12 * UTILISATION * 3600)
    found = estimate(one, SIZES, assumed("a100"), 2.5)
    assert found.gpu_hours == pytest.approx(hours)
    assert found.money == pytest.approx(2.5 * hours)


def test_rounds_and_finals_follow_each_other_and_packs_of_a_round_do_not() -> None:
    one = spec(pack={"size": 1})
    rounds = work(one, studies(one)[0], SIZES["demo/digits"])
    assert [len(packs) for packs in rounds] == [2, 2, 0, 2]
    found = estimate(one, SIZES, assumed("l4"))
    search, final = 2 * 10 * 100 + 20, 2 * 10 * 120 + 50
    share = (2 * search + final) / (4 * search + 2 * final)
    assert found.hours_longest_study == pytest.approx(share * found.gpu_hours)


def test_the_study_named_as_longest_is_the_one_with_most_to_do() -> None:
    found = estimate(spec(tasks=["demo/digits", "demo/count"]), SIZES, assumed("t4"))
    assert found.longest_study == "arc_pico/arc/demo/count"
    assert found.money is None


@settings(max_examples=30)
@given(
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(1, 8),
    st.integers(0, 3),
    st.booleans(),
)
def test_a_study_is_never_longer_than_the_sweep_and_no_trial_is_lost(
    trials: int, rounds: int, largest: int, again: int, halved: bool
) -> None:
    one = spec(
        search={
            "trials": trials,
            "rounds": rounds,
            "halving": {"start": 1, "eta": 2} if halved else None,
        },
        selection={"revalidate": again},
        pack={"size": largest},
    )
    found = estimate(one, SIZES, assumed("h100"))
    assert 0 < found.hours_longest_study <= found.gpu_hours * (1 + 1e-9)
    *search, finals = work(one, studies(one)[0], SIZES["demo/digits"])
    counted = cost(one, SIZES)
    assert counted.search_trials == sum(pack.trials for packs in search for pack in packs)
    assert counted.final_trials == sum(pack.trials for pack in finals) == 2
    assert all(pack.trials <= largest for packs in [*search, finals] for pack in packs)


def test_full_fine_tuning_needs_memory_for_each_trial_and_disk_for_each_final() -> None:
    found = estimate(
        spec(backbones=[VIT_B], methods=["full"], pack={"memory": 4}), SIZES, assumed("h200")
    )
    weights = 85.8e6
    assert found.pack_memory_gb == pytest.approx((4 + 2 * 16) * weights / 1e9, rel=0.02)
    assert found.results_gb == pytest.approx(2 * 4 * weights / 1e9, rel=0.02)
    assert found.cache_gb == pytest.approx(170 * 3 * 224**2 / 1e9)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number_of_money(price: float) -> None:
    with pytest.raises(InputError, match="--price must be"):
        estimate(spec(), SIZES, assumed("h100"), price)


def test_an_unknown_gpu_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown GPU 'h1000'; did you mean 'h100'"):
        estimate(spec(), SIZES, assumed("h1000"))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "sweeps/quickstart.yaml", "--gpu", "L4", "--price", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["estimate"]
    assert found["money"] == 2 * found["gpu_hours"] > 0
    assert main(["plan", "sweeps/quickstart.yaml", "--gpu", "h100"]) == 0
    assert "GPU-hours" in capsys.readouterr().out
    assert main(["plan", "sweeps/quickstart.yaml", "--price", "2"]) == 2
    assert "--price needs --gpu" in capsys.readouterr().err


def test_hours_from_an_earlier_sweep_are_those_that_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One trial of 10 epochs took 20 s there; here are 4 of them, and 2 finals a quarter longer."""
    one = spec(storage=str(tmp_path), data={"root": "stand-ins"}, tasks=["vtab/dtd"])
    folder = SweepFolder(one.place)
    folder.create()
    folder.spec.write_text(dump(one))
    with pytest.raises(InputError, match="no trial has been trained"):
        measured(str(folder.path))
    (study,) = studies(one)
    curve = [[epoch, 1.0, None, None] for epoch in range(1, 11)]
    trained: dict[str, Any] = {"epochs_run": 10, "curve": curve, "seconds": 20.0}
    folder.write_result(result(**asdict(study), **trained))
    rates = measured(str(folder.path))
    assert rates.device == "cpu"
    sizes = {"vtab/dtd": (800, 200, 0)}
    flop = size(one.backbones[0].backbone()).flop
    validating = 4 * 200 * flop / rates.otherwise
    found = estimate(one, sizes, rates)
    assert found.gpu_hours * 3600 == pytest.approx(4 * 20 + 2 * 25 + validating)
    path = tmp_path / "x.yaml"
    path.write_text(dump(one))
    assert main(["plan", str(path), "--measured", str(folder.path)]) == 0
    assert "measured in" in " ".join(capsys.readouterr().out.split()).lower()
    assert main(["plan", str(path), "--measured", str(folder.path), "--gpu", "l4"]) == 2

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
from orchestrator.cost.estimate import estimate
from orchestrator.cost.operations import size
from orchestrator.cost.rates import assumed, measured
from orchestrator.cost.work import Stretch, Work, cost, task_sizes, work
from orchestrator.plan import studies
from orchestrator.spec import Spec, dump, load, resolve
from orchestrator.store.folder import SweepFolder
from tests.results import result

SIZES = {"demo/digits": (100, 20, 50), "demo/count": (200, 10, 1000)}
SWEEPS = Path(__file__).parents[3] / "sweeps"
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


@pytest.mark.parametrize(
    ("method", "trial_step", "below"),
    [("arc", 12.5, 0), ("full", 2.24 * 13.3, 0), ("linear", 0.015 * 12.5, 100 + 100 + 120)],
)
def test_hours_and_money_by_hand(method: str, trial_step: float, below: int) -> None:
    """Two packs of 2 trials and one of 2 finals, 10 epochs of 100 and 120 images on an H200.

    `full` trains one after the other; the features of `linear` are computed once a pack.
    """
    one = spec(methods=[method], backbones=[VIT_B])
    images = 4 * 10 * 100 + 2 * 10 * 120
    evaluated = 4 * 20 + 2 * 50 + below
    seconds = images * trial_step / 1000 / 32 + evaluated / 7000
    found = estimate(one, SIZES, assumed("h200"), 2.5)
    assert found.gpu_hours == pytest.approx(seconds / 3600, rel=1e-3)
    assert found.money == 2.5 * found.gpu_hours


def test_a_study_takes_on_an_h200_what_its_timings_add_up_to() -> None:
    """16 trials in two packs of 8 with rungs 10, 30, 90 and three finals.

    With 8 alive a step lies between those of 3 and 16 (36 and 137.6 ms). An epoch of the search has
    25 steps, one of the finals 31.25.
    """
    found = estimate(study_of(16, pack={"size": 8}), TASK, assumed("h200"))
    eight = 36 + 5 / 13 * (137.6 - 36)
    search = 25 * (10 * eight + 20 * 2 * 12.5 + 70 * 13.3) / 1e3
    finals = 100 * 31.25 * 36 / 1e3
    assert found.gpu_hours * 3600 == pytest.approx(2 * search + finals, rel=0.01)


def test_another_card_is_slower_by_its_arithmetic_and_its_memory() -> None:
    h200, h100, l4 = (estimate(spec(), SIZES, assumed(gpu)) for gpu in ("h200", "H100", "l4"))
    memory = 4800 / 3350  # of the same arithmetic
    assert h100.gpu_hours / h200.gpu_hours == pytest.approx(0.55 + 0.45 * memory)
    assert l4.gpu_hours / h200.gpu_hours == pytest.approx(0.55 * 989 / 121 + 0.45 * 4800 / 300)
    assert "L4: 11.7 times as long, by bfloat16 peak" in l4.assumption
    assert "8.6 ms a trial-step of arc" in h200.assumption
    assert "times as long" not in h200.assumption


def test_heads_on_crops_need_a_pass_of_their_own_in_every_epoch() -> None:
    """All trials of a search share it; finals, whose orders differ, have one each."""
    shared = {"methods": ["linear"], "backbones": [VIT_B], "data": {"root": "stand-ins"}}
    sizes = {"vtab/dtd": (100, 20, 50), "fgvc/cub200": (100, 20, 50)}
    whole, crops = (
        estimate(spec(tasks=[task], **shared), sizes, assumed("h200")).gpu_hours for task in sizes
    )
    passes = 2 * 9 * 100 + (2 * 10 - 1) * 120
    assert (crops - whole) * 3600 == pytest.approx(passes / 7000, rel=1e-3)


TASK = {"vtab/dtd": (800, 200, 0)}


def study_of(trials: int, **changes: Any) -> Spec:
    """A study of arc on ViT-B as the full benchmark has it, its search one pack."""
    return spec(
        **{
            "tasks": ["vtab/dtd"],
            "backbones": [VIT_B],
            "search": {"trials": trials, "algorithm": "random", "halving": {"start": 10, "eta": 3}},
            "training": {"epochs": 100},
            "finals": {"seeds": [0, 1, 2]},
            "pack": {"size": 64},
            **changes,
        }
    )


@given(
    st.integers(1, 40),
    st.integers(1, 200),
    st.integers(1, 5000),
    st.sampled_from(["arc", "full", "linear", "partial", "ssf", "vpt_shallow"]),
    st.sampled_from(["h200", "l4"]),
)
def test_hours_grow_with_trials_epochs_and_images(
    trials: int, epochs: int, train: int, method: str, gpu: str
) -> None:
    def hours(trials: int, epochs: int, train: int) -> float:
        one = study_of(trials, methods=[method], training={"epochs": epochs, "warmup_epochs": 0})
        return estimate(one, {"vtab/dtd": (train, 200, 100)}, assumed(gpu)).gpu_hours

    before = hours(trials, epochs, train)
    assert before < hours(trials + 1, epochs, train)
    assert before < hours(trials, epochs + 1, train)
    assert before < hours(trials, epochs, train + 1)


@given(st.integers(1, 5), st.integers(8, 64))
def test_trials_side_by_side_cost_less_each_and_more_together(alive: int, batch: int) -> None:
    """16 alive cost more than 3, but less than 16/3 times as much."""
    one = study_of(
        16, search={"trials": 16, "halving": None}, training={"epochs": 10, "batch_size": batch}
    )
    (study,), rates = studies(one), assumed("h200")

    def seconds(trials: int) -> float:
        return rates.seconds(one, study, Work((Stretch(trials, 10),), 800, 0, 0))

    assert seconds(alive) < seconds(3 * alive) < 3 * seconds(alive) * (1 + 1e-9)
    assert seconds(3) < seconds(16) < 16 / 3 * seconds(3)


def test_a_chunk_that_is_given_bounds_what_is_computed_at_a_time() -> None:
    free, bound = (
        estimate(study_of(16, pack={"size": 64, "chunk": chunk}), TASK, assumed("h200")).gpu_hours
        for chunk in (16, 1)
    )
    assert free < bound


def test_the_full_benchmark_says_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "ARC_SWEEP_STORAGE"):
        monkeypatch.setenv(name, "/nowhere")
    path = SWEEPS / "full_benchmark.yaml"
    sweep = load(path)
    for gpu in ("h200", "l4"):
        found = estimate(sweep, task_sizes(sweep), assumed(gpu))
        assert f"{found.gpu_hours:,.0f} hours on one {gpu.upper()}" in path.read_text()


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
    printed = capsys.readouterr().out
    assert "on a GPU where the cluster has some" in printed
    assert "GPU-hours" in printed
    assert main(["plan", "sweeps/quickstart.yaml", "--set", "resources.gpu=0"]) == 0
    assert "Each pack trains on CPUs" in capsys.readouterr().out
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
    validating = rates.seconds(one, study, Work((), 0, 4 * 200, 0))
    found = estimate(one, sizes, rates)
    assert found.gpu_hours * 3600 == pytest.approx(4 * 20 + 2 * 25 + validating)
    path = tmp_path / "x.yaml"
    path.write_text(dump(one))
    assert main(["plan", str(path), "--measured", str(folder.path)]) == 0
    assert "measured in" in " ".join(capsys.readouterr().out.split()).lower()
    assert main(["plan", str(path), "--measured", str(folder.path), "--gpu", "l4"]) == 2

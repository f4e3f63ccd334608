"""A pack's run: schedule, rungs, halving, divergence, resuming, and what a trial's outcome says."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from timm.models import VisionTransformer
from torch import nn

from arc_train.feed import Feed, Images
from arc_train.methods import METHODS
from arc_train.outcome import Outcome
from arc_train.pack import Member
from arc_train.recipe import Halving, Recipe
from arc_train.seeding import generator
from arc_train.tasks.views import Split
from arc_train.training import PackRun

HALF = (0.5, 0.5, 0.5)
CLASSES = 3


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()


def images(count: int, seed: int) -> Split:
    """Three classes told apart by colour, with noise."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    noise = torch.randint(0, 120, (count, 16, 16, 3), generator=draws)
    colour = 100 * nn.functional.one_hot(labels, 3)[:, None, None]
    return Split((noise + colour).to(torch.uint8), labels)


TRAIN, VAL = images(50, 1), images(30, 2)


def members(lrs: Sequence[float], **config: float) -> list[Member]:
    return [
        Member(f"t{i}", {"lr": lr, "weight_decay": 0.0, **config}, i) for i, lr in enumerate(lrs)
    ]


def start(
    backbone: nn.Module,
    trials: Sequence[Member],
    method: str = "arc",
    epochs: int = 4,
    orders: Sequence[int] | None = None,
    val: Split | None = VAL,
    train: Split = TRAIN,
    halving: Halving | None = None,
    chunk: int = 16,
) -> PackRun:
    return PackRun(
        backbone,
        method,
        CLASSES,
        trials,
        orders or [7] * len(trials),
        Recipe(epochs, batch_size=16, warmup_epochs=1),
        Images(HALF, HALF, torch.device("cpu")),
        train,
        val,
        halving,
        chunk,
    )


def finish(run: PackRun) -> dict[str, Outcome]:
    outcomes: list[Outcome] = []
    while not run.done:
        outcomes += run.run_epoch()
    assert len({o.id for o in outcomes}) == len(outcomes)
    return {o.id: o for o in outcomes}


def test_a_run_learns_and_reports_what_happened(backbone: nn.Module) -> None:
    outcomes = finish(start(backbone, members([1e-2, 3e-3], rank=4, dropout=0.1), epochs=8))
    assert [o.status for o in outcomes.values()] == ["done", "done"]
    best = outcomes["t0"]
    assert best.val_accuracy is not None
    assert best.val_accuracy > 80
    assert [row[0] for row in best.curve] == list(range(1, 9))
    assert best.curve[0][1] > best.curve[-1][1]  # type: ignore[operator]
    assert best.curve[3][2:] == (None, None), "validated at rungs and at the end only"
    assert best.curve[-1][2:] == (best.val_loss, best.val_accuracy)
    adapter = 2 * (24 * 4 + 2 * 4 + 2 * 24)
    assert (best.adapter_params, best.trainable_params) == (adapter, adapter + 25 * CLASSES)
    assert best.seconds > 0


def test_answers_on_validation_images_are_those_that_validation_counts(
    backbone: nn.Module,
) -> None:
    run = start(backbone, members([1e-2, 3e-3], rank=4), epochs=2)
    outcomes = finish(run)
    for member, said in zip(run.pack.members, run.predict_val(), strict=True):
        assert said.accuracy == pytest.approx(outcomes[member.id].val_accuracy)
        assert said.loss.mean() == pytest.approx(outcomes[member.id].val_loss)


@pytest.mark.parametrize("method", ["linear", "arc"])
def test_halving_lets_the_best_go_on(backbone: nn.Module, method: str) -> None:
    lrs = [1e-6, 2e-2, 1e-5, 1e-2, 1e-7]
    config = {"rank": 4, "dropout": 0.0} if method == "arc" else {}
    run = start(backbone, members(lrs, **config), method, 6, halving=Halving(1, 2))
    outcomes = finish(run)
    # 5 -> 2 at epoch 1, -> 1 at epoch 2, stays 1 at epoch 4.
    assert sorted(o.epochs_run for o in outcomes.values()) == [1, 1, 1, 2, 6]
    done = [o for o in outcomes.values() if o.status == "done"]
    assert [o.id for o in done] in (["t1"], ["t3"])
    for outcome in outcomes.values():
        if outcome.status == "stopped":
            missed = re.fullmatch(
                r"stopped at the rung of epoch (\d): place (\d) of (\d), (\d) went on; "
                r"([\d.]+) % against ([\d.]+) % of the last that went on(, with a loss .*)?",
                str(outcome.note),
            )
            assert missed
            epoch, place, of, on = map(int, missed.groups()[:4])
            assert (epoch, (of, on)) in ((1, (5, 2)), (2, (2, 1)))
            assert epoch == outcome.epochs_run
            assert on < place <= of
            assert float(missed[5]) == pytest.approx(outcome.val_accuracy, abs=0.05)
            assert (float(missed[5]) == float(missed[6])) >= bool(missed[7])
            assert outcome.val_accuracy == outcome.curve[-1][3]


def test_who_survives_a_rung_ends_as_without_rungs(backbone: nn.Module) -> None:
    trials = members([1e-6, 1e-2, 1e-5], rank=4, dropout=0.2)
    raced = finish(start(backbone, trials, epochs=5, halving=Halving(2, 3)))
    calm = finish(start(backbone, trials, epochs=5))
    (survivor,) = [o for o in raced.values() if o.status == "done"]
    assert survivor.val_loss == pytest.approx(calm[survivor.id].val_loss, abs=1e-5)


@pytest.mark.parametrize("method", ["linear", "arc"])
def test_a_diverging_trial_ends_at_once_and_takes_no_one_along(
    backbone: nn.Module, method: str
) -> None:
    config = {"rank": 4, "dropout": 0.0} if method == "arc" else {}
    good = members([1e-2, 3e-3], **config)
    bad = Member("bad", {"lr": 1e38, "weight_decay": 1.0, **config}, 5)
    mixed = finish(start(backbone, [good[0], bad, good[1]], method))
    alone = finish(start(backbone, good, method))
    assert mixed["bad"].status == "diverged"
    assert "not finite" in str(mixed["bad"].note)
    assert mixed["bad"].epochs_run == 0
    for trial, outcome in alone.items():
        assert mixed[trial].status == "done"
        assert mixed[trial].val_loss == pytest.approx(outcome.val_loss, abs=1e-5)


def test_a_pack_in_which_all_diverge_is_done(backbone: nn.Module) -> None:
    run = start(backbone, members([1e38, 1e38], rank=4, dropout=0.0, weight_decay=1.0))
    assert {o.status for o in finish(run).values()} == {"diverged"}
    assert run.done


def comparable(outcomes: Mapping[str, Outcome]) -> list[Any]:
    return [(o.id, o.status, o.curve, o.note) for _, o in sorted(outcomes.items())]


@pytest.mark.parametrize("method", list(METHODS))
@settings(max_examples=2)
@given(cuts=st.sets(st.integers(1, 3), min_size=1))
def test_a_run_of_any_method_cut_anywhere_ends_bit_equal(
    backbone: nn.Module, method: str, cuts: set[int]
) -> None:
    accepts = inspect.signature(METHODS[method].attach).parameters
    config = {"dropout": 0.3} if "dropout" in accepts else {}
    trials = members([1e-2, 1e-6, 3e-3, 1e38], **{**config, "weight_decay": 0.1})

    def begun() -> PackRun:
        return start(backbone, trials, method, halving=Halving(2, 2))

    through = finish(begun())
    run, outcomes = begun(), []
    while not run.done:
        outcomes += run.run_epoch()
        if run.epoch in cuts:
            state, run = run.state_dict(), begun()
            run.load_state_dict(state)
    assert comparable({outcome.id: outcome for outcome in outcomes}) == comparable(through)


@pytest.mark.parametrize("method", ["linear", "arc", "full"])
def test_finals_with_orders_of_their_own_are_what_they_are_alone(
    backbone: nn.Module, method: str
) -> None:
    config = {"rank": 4, "dropout": 0.1} if method == "arc" else {}
    trials = members([1e-2, 1e-2], **config)
    run = start(backbone, trials, method, orders=[1, 2], val=None)
    together = finish(run)
    scores = run.predict(VAL)
    assert (scores[0].loss != scores[1].loss).any(), "seeds must differ in their draws"
    for i, trial in enumerate(trials):
        single = start(backbone, [trial], method, orders=[i + 1], val=None)
        assert finish(single)[trial.id].curve[-1][1] == pytest.approx(
            together[trial.id].curve[-1][1], abs=1e-4
        )
        (own,) = single.predict(VAL)
        assert np.array_equal(own.predicted, scores[i].predicted)
        assert own.loss == pytest.approx(scores[i].loss, abs=1e-3)


def ragged(count: int, seed: int) -> Split:
    """The same images inside larger ones of varied shape."""
    plain = images(count, seed)
    larger = [
        np.pad(image.numpy(), ((i % 3, 2), (1, i % 4), (0, 0)), mode="edge")
        for i, image in enumerate(plain.images)
    ]
    return Split(larger, plain.labels, 16)


@pytest.mark.parametrize("method", ["linear", "arc"])
@pytest.mark.parametrize("orders", [[7, 7], [1, 2]])
def test_crops_are_drawn_anew_each_epoch_and_for_each_trial_as_alone(
    backbone: nn.Module, method: str, orders: list[int]
) -> None:
    config = {"rank": 4, "dropout": 0.0} if method == "arc" else {}
    trials = members([1e-2, 3e-3], **config)
    data = {"train": ragged(50, 1), "val": ragged(30, 2)}
    together = finish(start(backbone, trials, method, orders=orders, **data))
    again = finish(start(backbone, trials, method, orders=orders, **data))
    assert comparable(together) == comparable(again)
    for i, trial in enumerate(trials):
        single = finish(start(backbone, [trial], method, orders=orders[i : i + 1], **data))
        assert single[trial.id].val_loss == pytest.approx(together[trial.id].val_loss, abs=1e-4)
    feed = Feed(data["train"], Images(HALF, HALF, torch.device("cpu")), 50, None)
    shown = []
    for epoch in range(2):
        (batch,) = feed.epoch(epoch, orders[:1])
        order = torch.randperm(50, generator=generator(orders[0], "epoch", epoch))
        shown.append(batch.inputs[order.argsort()])
    assert not torch.equal(*shown)


@given(
    epochs=st.integers(1, 200),
    steps=st.integers(1, 50),
    warmup=st.floats(0, 1),
)
def test_the_schedule_rises_to_one_and_falls_to_almost_nothing(
    epochs: int, steps: int, warmup: float
) -> None:
    recipe = Recipe(epochs, warmup_epochs=warmup * epochs)
    total = epochs * steps
    scales = [recipe.lr_scale(step, total) for step in range(total)]
    top = scales.index(max(scales))
    assert all(0 < scale <= 1 for scale in scales)
    assert scales[: top + 1] == sorted(scales[: top + 1])
    assert scales[top:] == sorted(scales[top:], reverse=True)
    assert math.isclose(max(scales), 1, rel_tol=1e-6)


@given(st.integers(1, 300), st.integers(1, 50), st.integers(2, 5))
def test_rungs_lie_before_the_end_a_factor_apart(epochs: int, first: int, eta: int) -> None:
    rungs = Halving(first, eta).rungs(epochs)
    assert all(rung < epochs for rung in rungs)
    assert all(b == a * eta for a, b in pairwise(rungs))
    assert (rungs[:1] == [first]) == (first < epochs)
    assert Halving(first, eta, 2).rungs(epochs) == rungs[:2]


def test_an_evaluation_that_runs_out_of_memory_leaves_the_training_chunk_alone(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = members([1e-2, 3e-3], rank=4, dropout=0.0)
    calm = finish(start(backbone, trials))
    run = start(backbone, trials)
    logits, sizes = run.pack.logits, []

    def limited(inputs: torch.Tensor, frozen: bool = False) -> torch.Tensor:
        sizes.append(len(inputs))
        if len(inputs) > 8:
            raise torch.OutOfMemoryError("pretend")
        return logits(inputs, frozen)

    monkeypatch.setattr(run.pack, "logits", limited)
    outcomes = finish(run)
    assert max(sizes) > 8 >= min(sizes)
    assert run.pack.chunk == 16
    for trial, outcome in calm.items():
        assert outcomes[trial].val_loss == pytest.approx(outcome.val_loss, abs=1e-6)
        assert outcomes[trial].val_accuracy == outcome.val_accuracy


def test_ridge_is_sklearns_in_one_epoch(backbone: nn.Module) -> None:
    """Whatever the epochs and rungs; the penalty is in mean eigenvalues of the features."""
    trials = [Member(f"t{i}", {"penalty": p}, i) for i, p in enumerate((1e-3, 1.0))]
    run = start(backbone, trials, "ridge", epochs=20, halving=Halving(2, 2))
    outcomes = finish(run)
    assert [(o.status, o.epochs_run, o.adapter_params) for o in outcomes.values()] == (
        [("done", 1, 0)] * 2
    )
    with torch.no_grad():
        pixels = Images(HALF, HALF, torch.device("cpu"))(TRAIN.images)  # type: ignore[arg-type]
        features = run.pack.model.frozen(pixels).double().numpy()
    centred = features - features.mean(axis=0)
    mean_eigenvalue = (centred**2).sum() / centred.shape[1]
    targets = nn.functional.one_hot(TRAIN.labels, CLASSES).numpy()
    for i, trial in enumerate(trials):
        judge = Ridge(alpha=trial.config["penalty"] * mean_eigenvalue).fit(features, targets)
        state = run.pack.state(i)
        assert abs(state["head.weight"].numpy() - judge.coef_).max() < 1e-4
        assert abs(state["head.bias"].numpy() - judge.intercept_).max() < 1e-4
        predicted = judge.predict(features).argmax(axis=1)
        assert np.array_equal(run.predict(TRAIN)[i].predicted, predicted)


class Metered:
    """A card that takes 12 joules between any two looks."""

    def __init__(self, device: torch.device) -> None:
        pass

    def spent(self) -> float | None:
        return 12.0


def test_energy_is_shared_by_those_in_training_and_survives_a_checkpoint(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks: as each epoch begins and ends, and when the second trial diverges in the first."""
    monkeypatch.setattr("arc_train.costs.EnergyMeter", Metered)
    trials = members([0.01, 1e30, 0.02])
    run = start(backbone, trials, epochs=2)
    lost = run.run_epoch()
    assert [outcome.energy for outcome in lost] == [12 / 3]
    state = run.state_dict()
    again = start(backbone, trials, epochs=2)
    again.load_state_dict(state)
    assert [outcome.energy for outcome in again.run_epoch()] == [12 / 3 + 12 / 2 + 12 / 2] * 2
    del state["joules"]  # of older code: the sum isn't known
    older = start(backbone, trials, epochs=2)
    older.load_state_dict(state)
    assert [outcome.energy for outcome in older.run_epoch()] == [None] * 2

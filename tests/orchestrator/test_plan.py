"""Plans are functions of the spec: same ids and draws always, other ids when anything matters."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_train.hyperparameters.space import (
    Choice,
    Config,
    Range,
    grid_configs,
    parse,
    random_configs,
)
from arc_train.methods.own import Source
from arc_train.packing import split
from orchestrator.cost.work import cost, published_cost, task_sizes
from orchestrator.plan import (
    Identity,
    final_trials,
    pack,
    pack_size,
    search_trials,
    studies,
)
from orchestrator.spec import ProtocolSpec, Spec, load, resolve
from orchestrator.store.pack import pack_of, pack_text

SWEEPS = Path(__file__).parents[2] / "sweeps"
IDENTITY = Identity({"arc_pico": "w"}, {"demo/digits": "d", "demo/count": "c"})


def spec(**changes: Any) -> Spec:
    raw = {
        "name": "x",
        "tasks": ["demo/digits", "demo/count"],
        "methods": ["arc", "linear"],
        "backbones": ["arc_pico"],
    }
    return resolve({**raw, **changes}, "x")


def ids(spec: Spec, identity: Identity = IDENTITY) -> set[str]:
    """All ids of the first study: its search, and finals of its first configuration."""
    study = studies(spec)[0]
    finals = final_trials(spec, study, identity, configs(spec)[0])
    return {trial.id for trial in [*search_trials(spec, study, identity, configs(spec)), *finals]}


def configs(spec: Spec) -> list[Config]:
    return random_configs(spec.space(spec.methods[0]), 0, spec.search.trials)


def test_the_same_spec_gives_the_same_ids_all_different() -> None:
    assert ids(spec()) == ids(spec())
    assert len(ids(spec())) == 16 + 3


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"training": {"epochs": 99}},
        {"training": {"batch_size": 16}},
        {"data": {"normalise": "imagenet"}},
        {"search": {"space": {"arc": {"lr": 0.1}}}},
    ],
)
def test_what_determines_a_result_changes_its_id(changes: dict[str, Any]) -> None:
    assert not ids(spec()) & ids(spec(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "y", "storage": "elsewhere"},
        {"pack": {"size": 4, "chunk": 1}},
        {"resources": {"cpu": 4, "gpu": 1}},
        {"wandb": {"mode": "disabled"}},
        {"methods": ["arc"]},
    ],
)
def test_how_and_where_it_runs_does_not(changes: dict[str, Any]) -> None:
    assert ids(spec()) == ids(spec(**changes))


def test_rungs_make_the_search_anew_and_no_number_of_them_is_what_it_was() -> None:
    plain = ids(spec(search={"halving": {"start": 10, "eta": 2}}))
    assert ids(spec(search={"halving": {"start": 10, "eta": 2, "rungs": None}})) == plain
    assert len(plain & ids(spec(search={"halving": {"start": 10, "eta": 2, "rungs": 2}}))) == 3


def test_the_leak_meter_makes_finals_anew_and_nothing_else() -> None:
    plain, metered = ids(spec()), ids(spec(protocol={"leak_meter": True}))
    assert len(plain & metered) == 16
    assert len(plain - metered) == 3
    assert ids(spec(protocol={"leak_meter": False})) == plain


def test_other_weights_or_images_change_ids() -> None:
    other_weights = Identity({"arc_pico": "v"}, IDENTITY.tasks)
    other_images = Identity(IDENTITY.backbones, {"demo/digits": "e", "demo/count": "c"})
    assert not ids(spec()) & ids(spec(), other_weights)
    assert not ids(spec()) & ids(spec(), other_images)


def test_another_source_of_an_own_method_changes_ids_and_its_place_does_not() -> None:
    def of(*source: str) -> set[str]:
        return ids(spec(), replace(IDENTITY, methods={"arc": Source(*source)}))

    assert not of("digest", "folder") & ids(spec())
    assert not of("digest", "folder") & of("another", "folder")
    assert of("digest", "folder") == of("digest", "elsewhere")


def test_asking_for_more_trials_or_seeds_keeps_the_first_ones() -> None:
    more = spec(search={"trials": 20}, finals={"seeds": [0, 1, 2, 3]})
    assert ids(spec()) < ids(more)


def test_seeds_of_a_final_differ_in_every_draw_and_search_trials_share_batches() -> None:
    plan = spec()
    study = studies(plan)[0]
    search = search_trials(plan, study, IDENTITY, configs(plan))
    finals = final_trials(plan, study, IDENTITY, search[0].config)
    assert len({trial.order_seed for trial in search}) == 1
    assert len({trial.init_seed for trial in search}) == len(search)
    assert len({trial.order_seed for trial in finals}) == len(finals)
    assert len({trial.init_seed for trial in finals}) == len(finals)


@given(st.integers(1, 200), st.integers(1, 40))
def test_packs_are_even_and_hold_each_trial_once(count: int, size: int) -> None:
    study = studies(spec())[0]
    wanted = spec(search={"trials": count})
    trials = search_trials(wanted, study, IDENTITY, configs(wanted))
    parts = list(split(trials, size))
    assert [trial for part in parts for trial in part] == trials
    assert max(map(len, parts)) <= size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    plan = pack("search", study, parts[0])
    assert pack_of(pack_text(plan)) == plan


def test_packs_of_methods_that_train_much_are_smaller() -> None:
    large = spec(
        backbones=[{"name": "b", "model": "vit_base_patch16_224", "weights": "random"}],
        methods=["linear", "arc", "full"],
    )
    linear, arc, full = studies(large)[:3]
    assert [pack_size(large, study) for study in (linear, arc)] == [64, 16]
    assert pack_size(large, full) == int(8e9 / (16 * 85_798_656)) == 5
    assert pack_size(spec(pack={"memory": 1e-9}), studies(spec())[0]) == 1


def test_cost_counts_every_image_of_a_small_sweep() -> None:
    small = spec(
        methods=["arc"],
        tasks=["demo/digits"],
        search={"trials": 4, "rounds": 1, "halving": {"start": 2, "eta": 2}},
        training={"epochs": 8, "warmup_epochs": 1},
        finals={"seeds": [0, 1]},
    )
    counted = cost(small, task_sizes(small))
    assert (counted.studies, counted.search_trials, counted.final_trials) == (1, 4, 2)
    assert counted.packs == 2
    # 4 trials to epoch 2, 2 to epoch 4, 1 to epoch 8; finals train on train+val.
    assert counted.epochs_trained == (4 * 2 + 2 * 2 + 1 * 4) + 2 * 8
    assert counted.images_trained == (4 * 2 + 2 * 2 + 1 * 4) * 800 + 2 * 8 * 1000
    assert counted.images_validated == (4 + 2 + 1) * 200
    assert counted.images_tested == 2 * 797
    metered = small.model_copy(update={"protocol": ProtocolSpec(leak_meter=True)})
    assert cost(metered, task_sizes(metered)).images_tested == 2 * 8 * 797
    published = published_cost(small, task_sizes(small))
    assert (published.search_trials, published.final_trials, published.packs) == (4, 0, 4)
    assert published.epochs_trained == 4 * 8
    assert published.images_trained == 4 * 8 * 1000
    assert (published.images_validated, published.images_tested) == (0, 4 * 8 * 797)


bounds = st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)).filter(lambda b: b[0] < 0.999 * b[1])


@given(bounds, st.booleans(), st.integers(0, 2**32))
def test_samples_stay_in_their_range(bounds: tuple[float, float], log: bool, seed: int) -> None:
    low, high = bounds
    dimension = parse("lr", {"log" if log else "uniform": [low, high]})
    drawn = random_configs({"lr": dimension}, seed, 5)
    assert all(low <= config["lr"] <= high for config in drawn)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True), st.integers(1, 60))
def test_a_small_space_is_searched_without_doubles(values: list[int], count: int) -> None:
    space = {"rank": parse("rank", values), "lr": parse("lr", [0.1, 0.2])}
    drawn = random_configs(space, 0, count)
    keys = {tuple(config.items()) for config in drawn}
    assert len(keys) == len(drawn)
    assert len(drawn) <= min(count, 2 * len(values))
    grid = grid_configs(space)
    assert keys <= {tuple(config.items()) for config in grid}
    assert len(grid) == 2 * len(values)


def test_forms_of_a_space() -> None:
    assert parse("lr", 0.1) == Choice((0.1,))
    assert parse("rank", [8, 16.0]) == Choice((8, 16))
    assert parse("lr", {"log": [0.1, 1]}) == Range(0.1, 1.0, True)
    for wrong in (True, "x", [], {}, {"log": [1]}, {"lg": [1, 2]}, [0.1, None], float("nan"), -1):
        with pytest.raises(ValueError, match=r"expected|must be"):
            parse("lr", wrong)


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_sweep_says_what_it_costs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "VTAB1K", "FGVC", "ARC_SWEEP_STORAGE"):
        monkeypatch.setenv(name, "/nowhere")
    said = set(re.findall(r"[\d,]*\d", path.read_text()))
    sweep = load(path)
    sizes = task_sizes(sweep)  # published ones, where no lists are
    ours, theirs = cost(sweep, sizes), published_cost(sweep, sizes)
    counts = [ours.search_trials, ours.final_trials, ours.packs, theirs.search_trials]
    for counted in (ours, theirs):
        images = counted.images_trained + counted.images_validated + counted.images_tested
        counts += [counted.epochs_trained, images]
    assert {f"{count:,}" for count in counts} <= said

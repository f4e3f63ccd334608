"""A search that learns from earlier sweeps: what it learns, and that it doesn't change its mind."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from arc_train.errors import InputError
from arc_train.hyperparameters.searchers import Observation, Problem, portfolio
from arc_train.hyperparameters.space import Choice, Config
from orchestrator.earlier_sweeps import learn
from orchestrator.plan import Identity, search_trials, studies
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, dump, resolve
from orchestrator.store.damage import set_aside_damaged
from orchestrator.store.folder import SweepFolder
from tests.results import result

IDENTITY = Identity({"arc_pico": "w"}, {"demo/digits": "d", "demo/count": "c"})
SPACE = {"arc": {"rank": [4, 8, 16, 32], "lr": [0.001, 0.01, 0.1], "weight_decay": 0, "dropout": 0}}


def spec(**search: Any) -> Spec:
    raw: dict[str, Any] = {
        "name": "new",
        "tasks": ["demo/count"],
        "methods": ["arc"],
        "backbones": ["arc_pico"],
        "search": {"trials": 4, "rounds": 1, "space": SPACE, **search},
    }
    return resolve(raw, "x")


def earlier(path: Path, configs: Iterable[Config]) -> SweepFolder:
    """A sweep's folder with trials of arc on another task: the smaller rank and lr, the better."""
    folder = SweepFolder(path)
    folder.create()
    old = resolve({"name": "old", "tasks": ["demo/digits"], "methods": ["arc"]}, "x")
    folder.write_spec(dump(old))
    for config in configs:
        accuracy = 90.0 - float(config["rank"]) - 100 * float(config["lr"])
        folder.write_result(
            result(backbone="b", task="demo/digits", config=config, val_accuracy=accuracy)
        )
    return folder


def tried(rank: int, lr: float, **more: float | str) -> Config:
    return {"rank": rank, "lr": lr, "weight_decay": 0.0, "dropout": 0.0, **more}


GRID = [tried(rank, lr) for rank in (4, 8, 16, 32) for lr in (0.001, 0.01, 0.1)]


def proposed(spec: Spec, path: Path) -> list[Config]:
    folder = SweepFolder(path)
    folder.create()
    learn(spec, folder)
    plan = SweepSearch(spec, IDENTITY, folder).next()
    assert plan is not None
    return [trial.config for trial in plan.trials]


def test_a_search_starts_where_an_earlier_sweep_did_well(tmp_path: Path) -> None:
    place = earlier(tmp_path / "old", GRID).place
    ranks = [c["rank"] for c in proposed(spec(learn_from=place), tmp_path / "new")]
    # The first is what the method's authors recommend, whatever was learned.
    assert set(ranks[1:]) <= {4, 8}
    assert ranks != [c["rank"] for c in proposed(spec(), tmp_path / "without")]


def test_what_was_learned_stays_though_the_earlier_sweep_goes_on_or_goes_away(
    tmp_path: Path,
) -> None:
    old = earlier(tmp_path / "old", GRID[:6])
    asking = spec(learn_from=[old.place])
    first = proposed(asking, tmp_path / "new")
    earlier(tmp_path / "old", GRID[6:])
    assert proposed(asking, tmp_path / "new") == first
    shutil.rmtree(old.path)
    assert proposed(asking, tmp_path / "new") == first
    with pytest.raises(InputError, match="not a sweep folder"):
        proposed(asking, tmp_path / "other")


def test_ids_depend_on_what_is_tried_alone() -> None:
    plain, learning = spec(), spec(learn_from=["elsewhere"])
    study = studies(plain)[0]
    ids = [[t.id for t in search_trials(s, study, IDENTITY, GRID)] for s in (plain, learning)]
    assert ids[0] == ids[1]


def test_a_damaged_copy_is_set_aside_and_made_again(tmp_path: Path) -> None:
    asking = spec(learn_from=[earlier(tmp_path / "old", GRID).place])
    first = proposed(asking, tmp_path / "new")
    copy = tmp_path / "new" / "learned.json"
    copy.write_text(copy.read_text().replace("0.001", "0.002", 1))
    damaged = set_aside_damaged(SweepFolder(tmp_path / "new"))
    assert [fault.path.name for fault in damaged] == ["learned.json"]
    assert not copy.exists()
    assert proposed(asking, tmp_path / "new") == first


def test_a_folder_without_trials_of_the_methods_is_refused(tmp_path: Path) -> None:
    place = earlier(tmp_path / "old", []).place
    with pytest.raises(InputError, match=r"no search trial of arc.*search\.learn_from"):
        proposed(spec(learn_from=[place]), tmp_path / "new")
    with pytest.raises(InputError, match=r"needs search\.algorithm: portfolio"):
        spec(learn_from=[place], algorithm="random")
    with pytest.raises(InputError, match=r"variable NOWHERE_AT_ALL is not set.*learn_from\[0\]"):
        spec(learn_from="${NOWHERE_AT_ALL}/old")


def test_other_spaces_and_variants_teach_what_they_can() -> None:
    space = {"rank": Choice((4, 8, 16)), "placement": Choice(("residual",))}
    own = [Observation({"rank": 4, "placement": "residual"}, 1.0)]

    def choose(*others: Observation) -> Config:
        return portfolio(Problem(space, 0, {}, own, [list(others)]), 1)[0]

    # Between 8 and 16 and beyond them: the higher the rank, the better.
    taught = [Observation({"rank": r, "placement": "residual"}, 1.0 * r) for r in (2, 5, 12, 40)]
    assert choose(*taught)["rank"] == 16
    alone = choose()
    other_variant = [Observation({"rank": r, "placement": "norm"}, 1.0 * r) for r in (4, 8, 16)]
    without = [Observation({"rank": r}, 1.0 * r) for r in (4, 8, 16)]
    assert choose(*other_variant) == choose(*without) == alone

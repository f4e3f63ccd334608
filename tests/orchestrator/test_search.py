"""Which pack comes next, from result files alone: cut anywhere, nothing is lost or doubled.

No Ray here: a pretend worker writes result files, and the driver may be forgotten at any point.
"""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_train.errors import InputError
from orchestrator.folder import SweepFolder
from orchestrator.plan import Identity, PackPlan, Trial
from orchestrator.search import SweepSearch
from orchestrator.spec import Spec, resolve

TASKS = ["demo/digits", "demo/count"]
METHODS = ["linear", "arc"]
IDENTITY = Identity({"arc_pico": "w"}, dict.fromkeys(TASKS, "d"))


def spec(**changes: Any) -> Spec:
    raw: dict[str, Any] = {
        "name": "x",
        "tasks": TASKS,
        "methods": METHODS,
        "backbones": ["arc_pico"],
        "search": {"trials": 5},
        "finals": {"seeds": [0, 1]},
        "pack": {"size": 2},
    }
    return resolve({**raw, **changes}, "x")


def opened(path: Path) -> SweepFolder:
    folder = SweepFolder(path)
    folder.create()
    return folder


def train(folder: SweepFolder, plan: PackPlan, trial: Trial, status: str = "done") -> None:
    """Pretend: accuracy is a function of the configuration."""
    accuracy = 100 * random.Random(str(trial.config)).random()
    folder.write_result(
        {
            "id": trial.id,
            "kind": plan.kind,
            "config": trial.config,
            "seed": trial.seed,
            "status": status,
            "val_accuracy": accuracy if status == "done" else None,
            "val_loss": 1.0,
            "trainable_params": 10,
        }
    )


def run(search: SweepSearch, trained: Counter[str]) -> None:
    """Run to the end, a pack at a time."""
    while not search.complete:
        plan = search.next()
        assert plan is not None, "nothing runs and nothing can start: the sweep would hang"
        for trial in plan.trials:
            if search.folder.result(trial.id) is None:
                train(search.folder, plan, trial)
                trained[trial.id] += 1
        search.ended(plan)


def test_every_study_is_searched_and_its_winner_refitted(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    search = SweepSearch(spec(), IDENTITY, folder)
    run(search, Counter())
    results = folder.results().values()
    assert Counter(result["kind"] for result in results) == {"search": 20, "final": 8}
    for study in search.studies:
        trials = [folder.result(trial.id) for trial in study.trials]
        best = max(trials, key=lambda result: result["val_accuracy"])  # type: ignore[index]
        assert study.finals
        for final in study.finals:
            assert final.config == best["config"]  # type: ignore[index]
    assert {trial.id for trial in search.trials()} == set(folder.results())


def test_finals_wait_for_the_whole_search_of_their_own_study_only(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    search = SweepSearch(spec(methods=["arc"]), IDENTITY, folder)
    packs = []
    while (plan := search.next()) is not None:
        packs.append(plan)
    assert [plan.kind for plan in packs] == ["search"] * 6
    first = [plan for plan in packs if plan.study == packs[0].study]
    for plan in first:
        assert search.next() is None
        for trial in plan.trials:
            train(folder, plan, trial)
        search.ended(plan)
    final = search.next()
    assert final
    assert (final.kind, final.study) == ("final", packs[0].study)


@settings(max_examples=60, deadline=None)
@given(draws=st.randoms(use_true_random=False), size=st.integers(1, 6))
def test_a_driver_forgotten_at_any_point_loses_and_doubles_nothing(
    tmp_path_factory: Any, draws: random.Random, size: int
) -> None:
    folder = opened(tmp_path_factory.mktemp("sweep"))
    trained: Counter[str] = Counter()
    for _ in range(draws.randint(0, 4)):
        search = SweepSearch(spec(pack={"size": size}), IDENTITY, folder)
        running: list[PackPlan] = []
        for _ in range(draws.randint(0, 25)):
            plan = search.next() if len(running) < 3 else None
            if plan is not None:
                running.append(plan)
            elif running:
                plan = running.pop(draws.randrange(len(running)))
                for trial in plan.trials:
                    if folder.result(trial.id) is None:
                        train(folder, plan, trial)
                        trained[trial.id] += 1
                search.ended(plan)
        for plan in running:  # cut in the middle: some of their trials have a result
            for trial in plan.trials[: draws.randint(0, len(plan.trials))]:
                if folder.result(trial.id) is None:
                    train(folder, plan, trial)
                    trained[trial.id] += 1
    # What is left goes on under any pack size.
    search = SweepSearch(spec(pack={"size": 7 - size}), IDENTITY, folder)
    run(search, trained)
    assert len(folder.results()) == 28
    assert set(trained.values()) == {1}


def test_a_pack_begun_before_is_taken_up_as_it_was(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    begun = SweepSearch(spec(pack={"size": 3}), IDENTITY, folder).next()
    assert begun
    train(folder, begun, begun.trials[0])
    again = SweepSearch(spec(pack={"size": 16}), IDENTITY, folder)
    assert again.next() == begun
    rest = again.next()
    assert rest
    assert not {t.id for t in rest.trials} & {t.id for t in begun.trials}


def test_more_trials_or_seeds_add_to_a_finished_sweep(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    run(SweepSearch(spec(), IDENTITY, folder), Counter())
    trained: Counter[str] = Counter()
    run(SweepSearch(spec(finals={"seeds": [0, 1, 2]}), IDENTITY, folder), trained)
    assert len(trained) == 4
    more = spec(search={"trials": 8}, finals={"seeds": [0, 1, 2]})
    run(SweepSearch(more, IDENTITY, folder), trained)
    assert set(trained.values()) == {1}
    assert len(trained) >= 4 + 4 * 3
    run(SweepSearch(more, IDENTITY, folder), again := Counter())
    assert not again


def test_failed_trials_are_tried_again_and_a_study_of_only_those_has_no_finals(
    tmp_path: Path,
) -> None:
    folder = opened(tmp_path)
    small = spec(tasks=["demo/digits"], methods=["arc"])
    search = SweepSearch(small, IDENTITY, folder)
    while (plan := search.next()) is not None:
        for trial in plan.trials:
            train(folder, plan, trial, "failed")
        search.ended(plan)
    assert search.complete
    assert search.studies[0].finals == []
    trained: Counter[str] = Counter()
    again = SweepSearch(small, IDENTITY, folder)
    while not again.complete:
        plan = again.next()
        assert plan
        for trial in plan.trials:
            train(folder, plan, trial)
            trained[trial.id] += 1
        again.ended(plan)
    assert len(trained) == 7
    assert {result["status"] for result in folder.results().values()} == {"done"}


def test_a_result_once_written_stays(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.write_result({"id": "a", "status": "done", "n": 1})
    folder.write_result({"id": "a", "status": "done", "n": 2})
    assert folder.result("a") == {"id": "a", "status": "done", "n": 1}
    folder.write_result({"id": "b", "status": "failed"})
    folder.write_result({"id": "b", "status": "done"})
    assert folder.result("b") == {"id": "b", "status": "done"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for content in ("", "{", "[1]", "\x00"):
        (folder.trials / "a.json").write_text(content)
        with pytest.raises(InputError, match=r"a\.json is damaged; delete it"):
            folder.results()

"""Which pack comes next, from result files alone: cut anywhere, nothing is lost or doubled.

No Ray here: a pretend worker writes result files, and the driver may be forgotten at any point.
"""

import random
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_train.errors import InputError
from orchestrator.plan import Identity
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, resolve
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan, Trial
from orchestrator.store.result import Status
from tests.results import result

TASKS = ["demo/digits", "demo/count"]
METHODS = ["linear", "arc"]
IDENTITY = Identity({"arc_pico": "w"}, dict.fromkeys(TASKS, "d"))


def spec(**changes: Any) -> Spec:
    raw: dict[str, Any] = {
        "name": "x",
        "tasks": TASKS,
        "methods": METHODS,
        "backbones": ["arc_pico"],
        "search": {"trials": 5, "algorithm": "random"},
        "finals": {"seeds": [0, 1]},
        "pack": {"size": 2},
    }
    return resolve({**raw, **changes}, "x")


def opened(path: Path) -> SweepFolder:
    folder = SweepFolder(path)
    folder.create()
    return folder


def train(
    folder: SweepFolder, plan: PackPlan, trial: Trial, status: Status = "done", lucky: bool = False
) -> None:
    """Pretend: accuracy is a function of the configuration, where luck doesn't reverse it."""
    accuracy = 50 * random.Random(str(trial.config)).random()
    accuracy = 100 - 0.1 * accuracy if lucky else accuracy
    folder.write_result(
        result(
            **asdict(plan.info(trial)),
            status=status,
            val_accuracy=accuracy if status == "done" else None,
            test_accuracy=50.0 if plan.kind == "final" else None,
            trainable_params=10,
        )
    )


def run(search: SweepSearch, trained: Counter[str]) -> None:
    """Run to the end, a pack at a time."""
    while (plan := search.next()) is not None:
        for trial in plan.trials:
            if search.folder.result(trial.id) is None:
                train(search.folder, plan, trial)
                trained[trial.id] += 1
        search.ended(plan)
    assert search.complete, "nothing runs and nothing can start: the sweep would hang"


def test_every_study_is_searched_and_its_winner_refitted(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    search = SweepSearch(spec(), IDENTITY, folder)
    run(search, Counter())
    results = folder.results().values()
    assert Counter(result.kind for result in results) == {"search": 20, "final": 8}
    for study in search.studies:
        own = [result for result in results if result.study == study.study]
        best = max(
            (result for result in own if result.kind == "search"),
            key=lambda result: result.val_accuracy or 0.0,
        )
        finals = [result for result in own if result.kind == "final"]
        assert [final.config for final in finals] == [best.config] * 2
    planned = {trial.id for pack in folder.pack_records() for trial in pack.trials}
    assert planned == set(folder.results())


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


@pytest.mark.parametrize("algorithm", ["random", "portfolio", "tpe"])
@settings(max_examples=20)
@given(draws=st.randoms(use_true_random=False), size=st.integers(1, 6))
def test_a_driver_forgotten_at_any_point_loses_and_doubles_nothing(
    tmp_path_factory: Any, algorithm: str, draws: random.Random, size: int
) -> None:
    search_spec = {"trials": 5, "algorithm": algorithm}
    folder = opened(tmp_path_factory.mktemp("sweep"))
    trained: Counter[str] = Counter()
    for _ in range(draws.randint(0, 4)):
        search = SweepSearch(spec(pack={"size": size}, search=search_spec), IDENTITY, folder)
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
    search = SweepSearch(spec(pack={"size": 7 - size}, search=search_spec), IDENTITY, folder)
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
    more = spec(search={"trials": 8, "algorithm": "random"}, finals={"seeds": [0, 1, 2]})
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
    assert {result.kind for result in folder.results().values()} == {"search"}
    trained: Counter[str] = Counter()
    again = SweepSearch(small, IDENTITY, folder)
    while (plan := again.next()) is not None:
        for trial in plan.trials:
            train(folder, plan, trial)
            trained[trial.id] += 1
        again.ended(plan)
    assert len(trained) == 7
    assert {result.status for result in folder.results().values()} == {"done"}


@pytest.mark.parametrize("algorithm", ["portfolio", "tpe"])
def test_a_search_that_learns_waits_for_each_round_and_resumes_as_it_would_have_gone_on(
    tmp_path: Path, algorithm: str
) -> None:
    folder = opened(tmp_path)
    learning = spec(methods=["arc"], pack={"size": 4}, search={"trials": 8, "algorithm": algorithm})
    search = SweepSearch(learning, IDENTITY, folder)
    first, elsewhere = search.next(), search.next()
    assert first
    assert elsewhere
    assert (len(first.trials), elsewhere.study.task) == (4, TASKS[1])
    assert search.next() is None
    for plan in (first, elsewhere):
        for trial in plan.trials:
            train(folder, plan, trial)
        search.ended(plan)
    second = search.next()
    assert second
    assert second.study == first.study
    assert not {trial.id for trial in first.trials} & {trial.id for trial in second.trials}
    (folder.packs / f"{second.id}.json").unlink()  # as if the driver had died before it
    assert SweepSearch(learning, IDENTITY, folder).next() == second


def test_the_recommended_configuration_is_tried_first(tmp_path: Path) -> None:
    search = SweepSearch(spec(search={"trials": 5}), IDENTITY, opened(tmp_path))
    plan = search.next()
    assert plan
    assert plan.trials[0].config == {"lr": 0.01, "weight_decay": 0.0001}


def test_the_best_trials_are_validated_again_before_one_is_chosen(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    twice = spec(
        tasks=TASKS[:1], methods=["arc"], selection={"revalidate": 3, "seeds": 2}, pack={"size": 9}
    )
    search = SweepSearch(twice, IDENTITY, folder)
    kinds = []
    while (plan := search.next()) is not None:
        kinds.append(plan.kind)
        for trial in plan.trials:
            train(folder, plan, trial, lucky=plan.kind == "search")
        search.ended(plan)
    assert kinds == ["search", "revalidate", "final"]
    results = list(folder.results().values())
    of_seed = Counter(result.seed for result in results if result.kind == "search")
    assert of_seed == {0: 5, 1: 3, 2: 3}
    by_config: dict[str, list[float]] = {}
    for ended in results:
        if ended.kind == "search":
            by_config.setdefault(str(ended.config), []).append(ended.val_accuracy or 0.0)
    means = {config: sum(v) / 3 for config, v in by_config.items() if len(v) == 3}
    (final,) = {str(result.config) for result in results if result.kind == "final"}
    assert means[final] == max(means.values())
    # Chance alone had made another one the winner.
    assert by_config[final][0] < max(v[0] for v in by_config.values())


def test_a_result_once_written_stays(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    first, failed = result("a", note="first"), result("b", status="failed")
    folder.write_result(first)
    folder.write_result(replace(first, note="second"))
    assert folder.result("a") == first
    folder.write_result(failed)
    folder.write_result(replace(failed, status="done"))
    assert folder.result("b") == replace(failed, status="done")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for content in ("", "{", "[1]", "\x00"):
        (folder.trials / "a.json").write_text(content)
        with pytest.raises(InputError, match=r"a\.json is damaged"):
            folder.results()

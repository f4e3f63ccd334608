"""A folder that version 0.1.0 wrote: today's code reads it, and would train none of it again.

tests/assets/sweep-version-1/sweep.yaml says what it was made from.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from arc_train.backbones import fingerprint
from orchestrator import contents, leaderboard, sweep
from orchestrator.plan import Identity, final_trials, pack, search_trials
from orchestrator.progress import Progress
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, resolve
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import plain_result

QUIET = Progress(Console(quiet=True))
KEPT = Path(__file__).parents[1] / "assets" / "sweep-version-1"


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    copy = tmp_path / KEPT.name
    shutil.copytree(KEPT, copy)
    return SweepFolder(copy)


@pytest.fixture
def spec(folder: SweepFolder) -> Spec:
    spec = contents.read(folder).spec
    assert spec
    return spec


# What files of version 1 say nothing of.
LATER = dict.fromkeys(("execution", "images_per_second", "peak_memory", "weights"))


def identity(spec: Spec, folder: SweepFolder) -> Identity:
    """Of today's backbone, and of the images that the results were made from."""
    return Identity(
        {entry.name: fingerprint(entry.backbone()) for entry in spec.backbones},
        {result.task: result.data.fingerprint for result in folder.results().values()},
    )


def test_every_result_and_pack_is_read_with_all_that_it_says(folder: SweepFolder) -> None:
    results = folder.results()
    assert len(results) == 12
    for trial, result in results.items():
        written = json.loads((KEPT / "trials" / f"{trial}.json").read_text())
        assert plain_result(result) == {"version": 1, **LATER, **written} | {
            "curve": tuple(map(tuple, written["curve"])),
            "code": {**written["code"], "method": None},
        }
    planned = {trial.id for plan in folder.pack_records() for trial in plan.trials}
    assert planned == set(results)


def test_a_file_that_names_no_rungs_goes_on_with_those_of_its_folder(
    spec: Spec, folder: SweepFolder, tmp_path: Path
) -> None:
    text = yaml.safe_load((KEPT / "sweep.yaml").read_text())
    named = resolve(text | {"search": {**text["search"], "halving": None}}, "sweep.yaml")
    del text["search"]["halving"]
    silent = resolve(text, "sweep.yaml")
    assert silent.search.halving != spec.search.halving, "the default is another one"
    assert sweep._as_begun(silent, folder, QUIET).search.halving == spec.search.halving
    assert sweep._as_begun(named, folder, QUIET) == named
    assert sweep._as_begun(silent, SweepFolder(tmp_path / "anew"), QUIET) == silent


def test_the_leaderboard_is_the_same_to_the_letter(folder: SweepFolder) -> None:
    for name in ("leaderboard.json", "leaderboard.csv"):
        (folder.path / name).unlink()
    found = leaderboard.source(folder, contents.read(folder))
    leaderboard.write(folder, found, leaderboard.board_of(found))
    for name in ("leaderboard.json", "leaderboard.csv"):
        assert (folder.path / name).read_text() == (KEPT / name).read_text()


def test_every_trial_and_pack_has_the_id_and_the_seeds_it_had(
    spec: Spec, folder: SweepFolder
) -> None:
    known = identity(spec, folder)
    records = folder.pack_records()
    assert {plan.kind for plan in records} == {"search", "final"}
    for plan in records:
        configs = [trial.config for trial in plan.trials]
        made = (
            search_trials(spec, plan.study, known, configs)
            if plan.kind == "search"
            else final_trials(spec, plan.study, known, configs[0])
        )
        assert pack(plan.kind, plan.study, made) == plan


def test_nothing_of_it_is_trained_again(spec: Spec, folder: SweepFolder) -> None:
    search = SweepSearch(spec, identity(spec, folder), folder)
    assert search.next() is None
    assert search.complete

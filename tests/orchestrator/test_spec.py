"""A spec is right and complete, or refused with a message that says where and what to do."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from arc_train.errors import InputError
from arc_train.hyperparameters.space import Choice, nearest_config, random_configs
from arc_train.methods import METHODS, recommended
from orchestrator.spec import dump, load, resolve

GOOD: dict[str, Any] = {
    "name": "x",
    "tasks": ["demo/digits"],
    "methods": ["arc"],
    "backbones": ["arc_pico"],
}
SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": ["linear", "ark"]}, ["unknown method 'ark' at methods[1]", "mean 'arc'"]),
        ({"tasks": ["cifar100"]}, ["'cifar100' at tasks[0]", "mean 'vtab/cifar100'"]),
        ({"tasks": ["demo/digits", "demo"]}, []),
        ({"tasks": ["demo/digits"] * 2}, ["'demo/digits' stands twice at tasks"]),
        ({"tasks": []}, ["tasks must", "at least 1"]),
        ({"backbones": ["vit_bse_patch16_224"]}, ["backbones[0]", "mean 'vit_base_patch16_224"]),
        ({"backbones": [{"name": "b", "modle": "vit_tiny_patch16_224"}]}, ["'modle'", "'model'"]),
        ({"serach": {}}, ["unknown key 'serach'", "mean 'search'"]),
        ({"search": {"trails": 4}}, ["'trails' at search.trails", "mean 'trials'"]),
        ({"search": {"trials": 0}}, ["search.trials must be", "found 0"]),
        ({"search": {"trials": "many"}}, ["search.trials must be", "'many'"]),
        ({"search": {"algorithm": "gird"}}, ["search.algorithm", "'random'", "mean 'grid'"]),
        ({"search": {"algorithm": "grid"}}, ["a grid needs lists", "lr", "search.space.arc"]),
        ({"search": {"halving": {"eta": 1}}}, ["search.halving.eta must be", "found 1"]),
        ({"search": {"space": {"arc": {"rnk": 8}}}}, ["'rnk'", "search.space.arc.rnk", "'rank'"]),
        ({"search": {"space": {"acr": {}}}}, ["'acr' at search.space.acr", "mean 'arc'"]),
        ({"search": {"space": {"arc": {"lr": "1e-3"}}}}, ["search.space.arc.lr", "YAML takes"]),
        ({"search": {"space": {"arc": {"rank": 2.5}}}}, ["whole number", "search.space.arc.rank"]),
        ({"search": {"space": {"arc": {"dropout": 1}}}}, ["dropout must be at least 0 and below"]),
        ({"search": {"space": {"arc": {"placement": "resid"}}}}, ["norm, residual", "'resid'"]),
        ({"search": {"space": {"arc": {"placement": ["norm"]}}}}, ["search.space.arc.placement"]),
        ({"search": {"space": {"arc": {"lr": {"log": [0, 1]}}}}}, ["log range", "above 0"]),
        ({"search": {"space": {"arc": {"lr": {"log": [1, 0.1]}}}}}, ["smaller to the larger"]),
        ({"training": {"epochs": 5}}, ["training.warmup_epochs 10", "training.epochs 5"]),
        ({"protocol": {"leak_meter": 2}}, ["leak_meter must be true or false, found 2"]),
        ({"finals": {"seeds": [1, 1]}}, ["a seed stands twice at finals.seeds"]),
        ({"finals": {"seeds": []}}, ["finals.seeds"]),
        ({"storage": "${NO_SUCH_VARIABLE}/x"}, ["NO_SUCH_VARIABLE is not set", "at storage"]),
        ({"storage": "ftp://host/x"}, ["must be a folder, or a URI with s3:// or gs://"]),
        ({"data": {"root": 3}}, ["data.root", "found 3"]),
        ({"tasks": [["demo"]]}, ["unknown task ['demo'] at tasks[0]"]),
        ({"tasks": {"demo": 1}}, ["tasks must"]),
        ({"methods": [{"arc": 1}]}, ["unknown method {'arc': 1} at methods[0]"]),
        (
            {"methods": ["absent.method"]},
            ["method 'absent.method': no module 'absent' is on the Python path", "at methods[0]"],
        ),
        (
            {"search": {"space": {"absent.method": {"lr": 1}}}},
            ["no module 'absent'", "at search.space.absent.method"],
        ),
        ({"methods": 3}, ["methods must"]),
        ({"backbones": [3]}, ["backbones[0]"]),
        ({"backbones": [{"name": 3}]}, ["backbones[0]"]),
        ({"backbones": [{"weights": 3}]}, ["backbones[0]"]),
        ({"name": "a/b"}, ["name"]),
        ({"name": None}, ["name"]),
        ({"resources": {"gpu": -1}}, ["resources.gpu must be auto, or a number", "found -1"]),
        ({"resources": {"gpu": "all"}}, ["resources.gpu must be auto, or a number", "'all'"]),
        ({"wandb": {"mode": "onlin"}}, ["wandb.mode", "mean 'online'"]),
        ({"search": 3}, ["search must be"]),
        ({"backbones": [{"name": "b", "model": "vit_tiny_patch16_224", "weights": "/no/w.pt"}]},
         ["no weights file /no/w.pt at backbones[0].weights"]),
    ],
)  # fmt: skip
def test_faults_are_named_with_place_and_remedy(change: dict[str, Any], says: list[str]) -> None:
    if not says:
        assert resolve({**GOOD, **change}, "x.yaml").tasks[0] == "demo/digits"
        return
    with pytest.raises(InputError) as caught:
        resolve({**GOOD, **change}, "x.yaml")
    for part in [*says, "in x.yaml"]:
        assert part in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        resolve({"tasks": ["nothing"], "methods": ["ark"], "epochs": 3}, "x.yaml")
    assert len(str(caught.value).splitlines()) == 4  # and no name


@pytest.mark.parametrize("text", ["", "- a\n- b", "name: [", "a: b: c", "\tname: x", "name: &a *b"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.yaml"):
        load(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't read sweep file"):
        load(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="can't read sweep file"):
        load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="can't read sweep file"):
        load(tmp_path / "binary.yaml")


def test_overrides_reach_any_depth_and_are_checked_like_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    spec = load(path, ["search.trials=4", "search.space.arc.rank=[2, 4]", "storage=elsewhere"])
    assert spec.search.trials == 4
    assert spec.space("arc")["rank"].values == (2, 4)  # type: ignore[union-attr]
    assert spec.storage == "elsewhere"
    for wrong in ("search.trials", "=4", "name.x=1", "search.trials=[", "search.trials=many"):
        with pytest.raises(InputError):
            load(path, [wrong])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nsearch: {trials: 4}\ntasks: x\nsearch: {trials: 400}", "line 2 and at line 4"),
        ("name: a\nsearch:\n  trials: 4\n  trials: 400", "'trials' stands twice, at line 3"),
        ("name: 2026-13-45", "value that can't be"),
        ("seed: !!float x", "can't be"),
        ("seed: !!int x", "can't be"),
        ("name: a\x00b", "not valid YAML"),
        ("name: " + "[" * 5000, "nested too deeply"),
        ("name: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_yaml_that_says_two_things_or_none_is_refused_in_one_line(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load(path)
    assert told in str(error.value)
    assert "x.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sweep_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8-sig")
    assert load(path) == resolve(GOOD, "x.yaml")


def test_what_is_resolved_loads_again_as_the_same(tmp_path: Path) -> None:
    spec = resolve({**GOOD, "tasks": "demo", "methods": "arc"}, "x.yaml")
    path = tmp_path / "spec.yaml"
    path.write_text(dump(spec))
    assert load(path) == spec
    assert spec.tasks == ["demo/digits", "demo/count", "demo/location", "demo/orientation"]


def test_a_variant_of_a_method_is_asked_for_like_a_hyperparameter() -> None:
    space = {"arc": {"placement": "residual"}, "adapter": {"as_published": True}}
    spec = resolve({**GOOD, "methods": ["arc", "adapter"], "search": {"space": space}}, "x")
    assert random_configs(spec.space("arc"), 0, 1)[0]["placement"] == "residual"
    assert random_configs(spec.space("adapter"), 0, 1)[0]["as_published"] is True
    assert "placement" not in resolve(GOOD, "x").space("arc")


@pytest.mark.parametrize("method", METHODS)
def test_what_is_recommended_lies_in_the_searched_space(method: str) -> None:
    space, first = (
        resolve({**GOOD, "methods": method}, "x").space(method),
        recommended(method).first,
    )
    assert nearest_config(space, first) == {
        name: first.get(name, dimension.values[0] if isinstance(dimension, Choice) else None)
        for name, dimension in sorted(space.items())
    }


def test_a_new_method_needs_no_space_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "new", METHODS["lora"])
    assert set(resolve({**GOOD, "methods": "new"}, "x").space("new")) == {
        "lr",
        "rank",
        "weight_decay",
    }


def test_environment_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    spec = resolve({**GOOD, "storage": "${SOMEWHERE}/r", "data": {"root": "${SOMEWHERE}"}}, "x")
    assert (spec.storage, str(spec.data_root)) == ("/data/r", "/data")


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_sweeps_are_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "VTAB1K", "FGVC", "ARC_SWEEP_STORAGE"):
        monkeypatch.setenv(name, "/somewhere")
    assert load(path).name == path.stem


OUTSIDE = [
    "../x",
    "..",
    ".",
    "a/../../b",
    "/x",
    "~",
    "~root",
    "a/b",
    "x\n",
    "x/",
    "C:\\x",
    "-x",
    "x" * 300,
]


@given(st.sampled_from(OUTSIDE) | st.text(max_size=20))
def test_a_name_never_leaves_the_storage_folder(name: str) -> None:
    try:
        spec = resolve(GOOD | {"name": name, "storage": "/results"}, "x.yaml")
    except InputError:
        return
    folder = Path(os.path.normpath(spec.place))
    assert folder.parent == Path("/results")
    assert folder.name.isprintable()

"""Results and pack records as files: what is written is read again, and what is wrong is named."""

import json
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc_train.errors import InputError
from orchestrator.store import record
from orchestrator.store.pack import PackPlan, Trial, pack_text, read_pack
from orchestrator.store.record import VERSION, DamagedFile
from orchestrator.store.result import (
    CodeInfo,
    CurveRow,
    DataInfo,
    MeterRow,
    Result,
    Study,
    read_result,
    result_text,
)
from tests.results import final, result

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | NUMBERS
WORDS = st.text(max_size=20)
VALUES = st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | WORDS
CONFIGS = st.dictionaries(WORDS, VALUES, max_size=4)
COUNTS = st.integers(0, 2**40)
RESULTS = st.builds(
    Result,
    id=WORDS,
    kind=st.sampled_from(["search", "final"]),
    backbone=WORDS,
    method=WORDS,
    task=WORDS,
    config=CONFIGS,
    seed=COUNTS,
    epochs_run=COUNTS,
    status=st.sampled_from(["stopped", "diverged", "failed"]),
    note=st.none() | WORDS,
    val_accuracy=MAYBE,
    val_loss=MAYBE,
    test_accuracy=MAYBE,
    trainable_params=st.none() | COUNTS,
    adapter_params=st.none() | COUNTS,
    curve=st.lists(st.builds(CurveRow, COUNTS, MAYBE, MAYBE, MAYBE), max_size=4).map(tuple),
    seconds=NUMBERS,
    data=st.builds(
        DataInfo,
        variant=st.none() | WORDS,
        fingerprint=WORDS,
        val_images=st.none() | COUNTS,
    ),
    code=st.builds(CodeInfo, WORDS, st.none() | WORDS),
    packages=st.dictionaries(WORDS, WORDS, max_size=3),
    device=st.none() | WORDS,
    test_curve=st.none() | st.lists(st.builds(MeterRow, COUNTS, NUMBERS), max_size=4).map(tuple),
)
PACKS = st.builds(
    PackPlan,
    id=WORDS,
    kind=st.sampled_from(["search", "revalidate", "final"]),
    study=st.builds(Study, WORDS, WORDS, WORDS),
    trials=st.lists(st.builds(Trial, WORDS, CONFIGS, COUNTS, COUNTS, COUNTS), max_size=3).map(
        tuple
    ),
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_folder
@given(RESULTS)
def test_a_result_is_read_as_it_was_written(tmp_path: Path, made: Result) -> None:
    path = tmp_path / "r.json"
    path.write_text(result_text(made))
    assert read_result(path) == made
    types = [type(value) for value in read_result(path).config.values()]
    assert types == [type(value) for value in made.config.values()], "0 and 0.0 name other trials"


@same_folder
@given(PACKS)
def test_a_pack_is_read_as_it_was_recorded(tmp_path: Path, made: PackPlan) -> None:
    path = tmp_path / "p.json"
    path.write_text(pack_text(made))
    assert read_pack(path) == made


def test_the_file_has_the_documented_keys_in_a_fixed_order() -> None:
    content = json.loads(result_text(final(3, 61.0, curve=[[1, 2.5, None, None]])))
    assert list(content) == [
        *("version", "id", "kind", "backbone", "method", "task", "config", "seed", "epochs_run"),
        *("status", "note", "val_accuracy", "val_loss", "test_accuracy", "trainable_params"),
        *("adapter_params", "curve", "seconds", "data", "code", "packages", "device"),
        *("weights", "execution", "images_per_second", "peak_memory", "digest"),
    ]
    assert content["version"] == VERSION == 3
    assert content["curve"] == [[1, 2.5, None, None]]
    metered = json.loads(result_text(final(3, 61.0, test_curve=[[1, 60.0], [2, 61.0]])))
    assert metered["test_curve"] == [[1, 60.0], [2, 61.0]]


def test_values_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        result().status = "failed"  # type: ignore[misc]


def unstamped(made: Result) -> dict[str, Any]:
    """A result's content as version 2 wrote it, without a digest."""
    content: dict[str, Any] = json.loads(result_text(made))
    del content["digest"]
    return content | {"version": 2}


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """What puts a value at a key such as `data.fingerprint`."""

    def change(content: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for part in path:
            content = content[part]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        *((changed(key, [1]), key) for key in ("id", "kind", "status", "seed", "seconds", "note")),
        (changed("kind", "pretest"), "kind"),
        (changed("status", "paused"), "status"),
        (changed("epochs_run", 1.5), "epochs_run"),
        (changed("epochs_run", "4"), "epochs_run"),
        (changed("config", {"lr": None}), "config.lr"),
        (changed("config", {"lr": math.nan}), "config.lr"),
        (changed("val_accuracy", math.nan), "val_accuracy"),
        (changed("val_loss", math.inf), "val_loss"),
        (changed("val_loss", None), "val_loss"),
        (changed("trainable_params", None), "trainable_params"),
        (changed("curve", [[1, 2.0, None]]), "curve.0"),
        (changed("curve", [[1, 2.0, None, "x"]]), "curve.0.3"),
        (changed("curve", [[1, 2.0, None, None], 7]), "curve.1"),
        (changed("data.fingerprint", None), "data.fingerprint"),
        (changed("code", "0.1.0"), "code"),
        (changed("packages.torch", 2), "packages.torch"),
        (changed("version", "2"), "version"),
        (changed("version", 0), "version"),
    ],
)
def test_damage_is_named_in_a_line_with_file_and_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    path = tmp_path / "t.json"
    content = unstamped(result())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"t\.json is damaged") as error:
        read_result(path)
    assert f"(trial result: {told}" in str(error.value)
    assert "\n" not in str(error.value)


# Files of version 1 have none of these.
LATER = {"version", "execution", "images_per_second", "peak_memory", "weights", "digest"}
REQUIRED = sorted(set(json.loads(result_text(result()))) - LATER - {"note"})


@pytest.mark.parametrize("key", REQUIRED)
def test_a_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "t.json"
    content = unstamped(result())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"t\.json is damaged.*trial result: {key}: .*required"):
        read_result(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\x00", '{"id": "\xff'])
def test_what_is_no_json_object_is_no_result_and_no_pack(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(text.encode("latin-1"))
    for read in (read_result, read_pack):
        with pytest.raises(InputError, match=r"t\.json is damaged.*JSON"):
            read(path)


@same_folder
@given(st.data())
def test_whatever_happens_to_a_file_it_is_read_as_it_was_or_not_at_all(
    tmp_path: Path, data: st.DataObject
) -> None:
    """A flipped bit, a cut or an addition anywhere: no other number comes of it."""
    path = tmp_path / "t.json"
    made = result("t", curve=[[1, 2.0, 1.5, 40.0]])
    content = bytearray(result_text(made).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    path.write_bytes(bytes(content[:cut]) + data.draw(st.binary(max_size=3)))
    try:
        found = read_result(path)
    except DamagedFile:
        return
    assert found == made


def test_a_newer_format_is_refused_and_nothing_is_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(record.text(unstamped(result()) | {"version": 99}))
    with pytest.raises(InputError, match=r"t\.json is of format 99") as error:
        read_result(path)
    assert "delete" not in str(error.value)


def test_a_file_without_a_version_is_of_version_1(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    content = unstamped(result())
    del content["version"]
    # What results of the first weeks did not have yet.
    del content["note"]
    content["data"] = {"variant": "v", "fingerprint": "f"}
    path.write_text(json.dumps(content))
    found = read_result(path)
    assert (found.version, found.note, found.data) == (
        1,
        None,
        DataInfo(variant="v", fingerprint="f"),
    )


def test_a_number_that_is_none_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        result_text(result(val_loss=math.nan))

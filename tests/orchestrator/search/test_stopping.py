"""`arc-sweep replay` of rules for stopping, on curves whose end is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.cli import main
from orchestrator.search.curves import Curves
from orchestrator.search.stopping import PACK, Halving, replay_stopping
from orchestrator.store.result import Study

EPOCHS, IMAGES, TRIALS = 20, 50, 2 * PACK
RECORDED = Path(__file__).parents[3] / "benchmarks" / "curves"


def curves(task: str, crossing: bool) -> Curves:
    """Trial t is right on 10 + 2t images from the first epoch on, and as good on the test split.

    crossing: until epoch 10 the order is the other way round.
    """
    counts = 10 + 2 * np.arange(TRIALS)
    by_epoch = np.repeat(counts[:, None], EPOCHS, axis=1)
    if crossing:
        by_epoch[:, :10] = counts[::-1, None]
    right = np.arange(IMAGES) < by_epoch[..., None]
    losses = 1 - right.mean(axis=2).astype(np.float32)
    return Curves(
        study=Study("b", "m", task),
        configs=tuple({"lr": float(trial)} for trial in range(TRIALS)),
        rounds=(TRIALS,),
        right=right,
        losses=losses,
        train_losses=losses,
        test_accuracy=counts.astype(np.float32),
        params=np.full(TRIALS, 7),
        seconds=np.ones(TRIALS, np.float32),
    )


def folder(place: Path, *recorded: Curves) -> Path:
    for each in recorded:
        each.write(place / f"{each.study.task}.npz")
    return place


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = curves("t", crossing=True)
    read = Curves.read(folder(tmp_path, written) / "t.npz")
    assert (read.study, read.configs, read.rounds) == (written.study, written.configs, (TRIALS,))
    for name in ("right", "losses", "train_losses", "test_accuracy", "params", "seconds"):
        assert np.array_equal(getattr(read, name), getattr(written, name))


def test_a_rule_loses_nothing_where_the_order_holds_and_the_best_where_it_turns() -> None:
    early, late, late_alone = Halving(10, 2), Halving(60, 2), Halving(10, 2, 1)
    held, turned = curves("held", crossing=False), curves("turned", crossing=True)
    found = {cost.rule: cost for cost in replay_stopping([held, turned], [early, late, late_alone])}
    assert found["60,2"].by_study == {"b/m/held": (0, 0), "b/m/turned": (0, 0)}
    lost, in_one = found["10,2"].by_study["b/m/turned"]
    assert found["10,2"].by_study["b/m/held"] == (0, 0)
    # One of each pack is left, its worst: of two packs of 16 trials, 15 or less above the worst.
    assert 2 * (TRIALS - PACK) <= lost <= 2 * (TRIALS - 1)
    assert in_one >= 2 * (PACK - 1)
    once, _ = found["10,2,1"].by_study["b/m/turned"]
    assert 0 < once < lost


def test_the_share_of_epochs_is_counted() -> None:
    # Of eight trials and 20 epochs: rungs at 2, 4, 8, 16, and at 12.
    [early, late] = replay_stopping([curves("t", crossing=False)], [Halving(10, 2), Halving(60, 2)])
    assert early.epochs == pytest.approx(100 * (8 * 2 + 4 * 2 + 2 * 4 + 8 + 4) / (8 * 20))
    assert late.epochs == pytest.approx(100 * (8 * 12 + 4 * 8) / (8 * 20))


def test_the_command_shows_rules_in_a_table_and_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder(tmp_path, curves("one", crossing=False), curves("two", crossing=True))
    assert main(["replay", str(place), "--halving", "10,2", "--halving", "60,2,1"]) == 0
    shown = capsys.readouterr().out
    assert "2 studies of 2 tasks" in shown
    assert "\u2026" not in shown, "a column is cut"
    assert main(["replay", str(place), "--json", "--halving", "60,2"]) == 0
    [cost] = json.loads(capsys.readouterr().out)["halving"]
    assert (cost["rule"], cost["lost"]) == ("60,2", 0)


def test_the_recorded_studies_are_read_and_the_default_is_among_the_rules(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", str(RECORDED)]) == 0
    assert "10,2 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{place}", "--halving", "0,2"], "--halving"),
        (["{place}", "--halving", "10,1"], "--halving"),
        (["{place}", "--halving", "10"], "--halving"),
        (["{place}", "--halving", "a,b"], "--halving"),
        (["{place}", "--trials", "4"], "--trials"),
        (["{place}/one.npz", "--halving", "10,2"], "--halving"),
        (["{place}/none", "--halving", "10,2"], "none"),
        (["{place}/empty"], "no recorded curves"),
        (["{place}/damaged"], "bad.npz"),
        (["{place}/few"], "b/m/few"),
    ],
)
def test_bad_input_is_named_in_one_line(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "damaged", "few"):
        (tmp_path / name).mkdir()
    folder(tmp_path, curves("one", crossing=False))
    content = (tmp_path / "one.npz").read_bytes()
    (tmp_path / "damaged" / "bad.npz").write_bytes(content[: len(content) // 2])
    whole = curves("few", crossing=False)
    parts = {name: value[:3] for name, value in vars(whole).items() if name != "study"}
    folder(tmp_path / "few", Curves(whole.study, **parts))
    assert main(["replay", *(part.format(place=tmp_path) for part in arguments)]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1

"""How `arc-sweep run` ends, by what a sweep ended with: what isn't as asked for is said."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator import leaderboard
from orchestrator.commands.run import exit_code
from orchestrator.contents import Contents
from orchestrator.spec import Spec, resolve
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result
from orchestrator.sweep import Ended
from tests.results import final, result

STUDY = {"backbone": "arc_pico", "method": "linear", "task": "demo/digits"}
CONFIG = {"config": {"lr": 0.01}}
WON = [result(**STUDY, **CONFIG), final(0, 50.0, **STUDY, **CONFIG)]
NOTHING = dict.fromkeys(("val_accuracy", "val_loss"))
DIVERGED = [result(**STUDY, **CONFIG, **NOTHING, status="diverged") for _ in range(2)]


def spec(mode: str = "auto") -> Spec:
    raw = {"name": "x", "tasks": STUDY["task"], "methods": "linear", "backbones": "arc_pico"}
    return resolve({**raw, "wandb": {"mode": mode}}, "x")


def ended(results: list[Result], **more: Any) -> Ended:
    found = Contents("x", spec(), {r.id: r for r in results})
    board = leaderboard.board_of(leaderboard.source(SweepFolder("x"), found))
    plain = {
        "statuses": {},
        "trained": 1,
        "complete": True,
        "interrupted": False,
        "problem": None,
        "unsent": None,
    }
    return Ended(Path("x"), board, **{**plain, **more})


@pytest.mark.parametrize(
    ("results", "more", "mode", "code", "says"),
    [
        (WON, {}, "auto", 0, ""),
        (WON, {"complete": False}, "auto", 1, "the sweep is not complete"),
        (DIVERGED, {}, "auto", 1, "no winner in arc_pico/linear/demo/digits (2 diverged)"),
        (DIVERGED, {"interrupted": True}, "auto", 130, "the same command goes on"),
        (WON, {"problem": "the cluster has ended"}, "auto", 2, "the cluster has ended"),
        (WON, {"unsent": "W&B runs are missing"}, "auto", 0, "W&B runs are missing"),
        (WON, {"unsent": "W&B runs are missing"}, "online", 1, "W&B runs are missing"),
    ],
)
def test_the_exit_code_and_a_line_say_what_is_not_as_asked_for(
    results: list[Result],
    more: dict[str, Any],
    mode: str,
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(spec(mode), ended(results, **more)) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == bool(says)

"""The commands that only look: what they print, and how they end."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arc_train.tasks.catalog import catalog, groups
from orchestrator.cli import COMMANDS, _parser, main


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, contextlib\n"
        "from orchestrator.cli import COMMANDS, main\n"
        "for command in ([], *([name] for name in COMMANDS)):\n"
        "    with contextlib.suppress(SystemExit): main([*command, '--help'])\n"
        "print([m for m in ('torch', 'ray', 'wandb', 'timm', 'rich') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    printed = " ".join(done.stdout.split())
    for name, summary in COMMANDS.items():
        assert f"usage: arc-sweep {name} [-h]" in printed
        assert f"example: arc-sweep {name} {_example(name)}\n" in done.stdout
        assert f"{name} {summary}" in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_parse(name: str) -> None:
    words = [name, *_example(name).split()]
    assert _parser(words).parse_args(words).run


def _example(name: str) -> str:
    example: str = import_module(f"orchestrator.commands.{name}").EXAMPLE
    return example


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("arc-sweep lea", ["leaderboard "]),
        ("arc-sweep plan --meas", ["--measured "]),
        ("arc-sweep status --w", ["--watch "]),
    ],
)
def test_a_shell_is_told_how_a_line_may_go_on(line: str, words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "words"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-m", "orchestrator.cli"]
    subprocess.run(command, env=os.environ | asked, check=True)
    assert out.read_text().split("\n") == words


# The command, with a signal as it begins to import a module.
INTERRUPTED = """
import os, sys
number, at = int(sys.argv.pop(1)), sys.argv.pop(1)
class Signal:
    def find_spec(self, name, *_):
        if name == at:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Signal())
from orchestrator.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", ["orchestrator.commands.run", "rich.console", "numpy", "torch"])
def test_a_signal_while_python_imports_ends_the_command_in_order(
    tmp_path: Path, at: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(int(number)), at, "run", "sweep.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: nothing was begun\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["plna"], "invalid choice: 'plna'"),
        (["status"], "the following arguments are required: DIR"),
        (["data"], "the following arguments are required: ACTION"),
    ],
)
def test_a_wrong_command_line_says_what_is_missing(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(words)
    assert message in capsys.readouterr().err


def test_tasks_and_methods_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [task["key"] for task in printed["tasks"]] == list(catalog())
    assert {name: len(keys) for name, keys in printed["groups"].items()} == (
        {name: len(keys) for name, keys in groups().items()}
    )
    assert main(["methods", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    arc = next(c for c in printed["counts"] if (c["backbone"], c["method"]) == ("ViT-B/16", "arc"))
    assert (arc["adapter"], round(arc["vtab"]), arc["published"]["vtab"]) == (96432, 134477, "0.13")


def test_tasks_say_what_is_ready_here(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "kitti", root / "dtd")
    (root / "dtd" / "val200.txt").write_text("val200/0.jpg 47\n")
    (root / "CUB").mkdir()
    cache = str(tmp_path / "cache")
    prepared = ["data", "prepare", "vtab/kitti", "--root", str(root), "--cache", cache]
    for size in ("24", "16"):
        assert main([*prepared, "--size", size]) == 0
    capsys.readouterr()
    command = ["tasks", "--root", str(root), "--cache", cache]
    assert main([*command, "--json"]) == 0
    tasks = {task["key"]: task for task in json.loads(capsys.readouterr().out)["tasks"]}
    states = {key: task["ready"]["lists"] for key, task in tasks.items()}
    assert states["vtab/kitti"] == "other sizes"
    assert states["vtab/dtd"] == states["fgvc/cub200"] == "wrong"
    assert states["vtab/pets"] == "not found"
    assert states["demo/digits"] == "embedded"
    assert tasks["vtab/kitti"]["ready"]["cached"] == [16, 24]
    assert tasks["vtab/clevr_count"]["label"] == "number of objects, minus 3"
    (root / "kitti" / "train800" / "0.jpg").unlink()
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "train800.txt:1: no image" in out
    assert "val200.txt:1: label 47 is out of range" in out
    assert main(["tasks", "--root", str(root / "nowhere")]) == 2


def test_a_log_that_can_not_be_written_is_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    assert main(["tasks", "--json"]) == 0
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # nor can it be closed
        logging.StreamHandler(full).handle(logging.makeLogRecord({"msg": "says a library"}))
    assert capfd.readouterr().err == ""


def test_methods_on_a_narrow_terminal_show_every_digit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert "85,836,701" in text
    assert "\u2026" not in text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean task: kitti, 4 classes."""
    folder = tmp_path / "kitti"
    draws = np.random.default_rng(0)
    for split in ("train800", "val200", "test"):
        (folder / split).mkdir(parents=True)
        lines = []
        for i in range(8):
            name = f"{split}/{i}.jpg"
            pixels = draws.integers(0, 255, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
            lines.append(f"{name} {i % 4}")
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return tmp_path


def test_data_check_ends_by_what_it_finds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "check", "vtab/kitti", "--root", str(root)]
    assert main(command) == 0
    assert "24 JPEG" in capsys.readouterr().out
    path = root / "kitti" / "test.txt"
    path.write_text(path.read_text().replace(" 3", " 2"))
    assert main([*command, "--json"]) == 2
    (report,) = json.loads(capsys.readouterr().out)
    assert report["faults"] == ["no test image of class 3"]
    assert main(command) == 2
    assert "FAULT vtab/kitti: no test image of class 3" in capsys.readouterr().out
    assert main(["data", "check", "vtab/kity", "--root", str(root)]) == 2
    assert "did you mean 'vtab/kitti'" in capsys.readouterr().err


def test_data_prepare_fills_the_cache_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "prepare", "vtab/kitti", "--root", str(root), "--size", "16"]
    for _ in range(2):
        assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
        assert "resize 16x16 bicubic, fingerprint" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").rglob("meta"))) == 1
    assert main([*command[:3], "--root", str(root), "--size", "0"]) == 2
    assert main(["data", "prepare", "fgvc/cars"]) == 2
    assert "set data.root" in capsys.readouterr().err


def test_a_damaged_cache_is_found_by_check_and_mended_by_prepare(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["vtab/kitti", "--root", str(root), "--cache", str(tmp_path / "cache")]
    prepare, check = ["data", "prepare", *source, "--size", "16"], ["data", "check", *source]
    assert main(prepare) == main(check) == 0
    (pixels,) = (tmp_path / "cache").rglob("test.pixels")
    content = bytearray(pixels.read_bytes())
    content[16 * 16 * 3] ^= 1
    pixels.write_bytes(content)
    capsys.readouterr()
    assert main(check) == 2
    assert "is damaged: image 1 of test.pixels isn't as it was written" in capsys.readouterr().out
    assert main(prepare) == 0
    assert "its images are decoded again" in capsys.readouterr().out
    assert main(check) == 0

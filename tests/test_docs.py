"""What the pages say holds: links and files exist, commands parse, code and YAML are valid."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from arc_train import adapt, adapter_state
from arc_train.backbones import Backbone, outline
from arc_train.methods import METHODS
from arc_train.tasks.catalog import Task
from arc_train.tasks.sources import open_source
from orchestrator.cli import main
from orchestrator.leaderboard.board import (
    BestOnTest,
    Board,
    Protocol,
    Reference,
    Row,
    Spread,
    Ties,
)
from orchestrator.spec import resolve
from orchestrator.store.pack import PackPlan, Trial
from orchestrator.store.result import CodeInfo, DataInfo, Result, Study

TOP = Path(__file__).parents[1]
PAGES = [
    *sorted(TOP.glob("*.md")),
    *sorted(TOP.glob("docs/*.md")),
    *sorted(TOP.glob("benchmarks/*.md")),
]
FOLDERS = {path.name for path in TOP.iterdir() if path.is_dir() and path.name[0] != "."}
SMALLEST = {"name": "page", "tasks": ["demo/digits"], "methods": ["linear"]}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every command in a ```console block, several to a line among them."""
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    words = shlex.split(line[2:], comments=True)
                    for command in " ".join(map(shlex.quote, words)).split(" '&&' "):
                        yield page.name, shlex.split(command)


def commands_in_comments() -> Iterator[tuple[str, list[str]]]:
    """The same of the lines that YAML files start with."""
    for file in [*sorted(TOP.glob("sweeps/*.yaml")), *sorted(TOP.glob("cluster*.yaml"))]:
        for line in re.findall(r"^# {3}(arc-sweep .+)$", file.read_text(), re.MULTILINE):
            yield file.name, shlex.split(line, comments=True)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


class _Parsed(Exception):
    pass


@pytest.fixture
def only_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line ends where its arguments are parsed."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(parser, *arguments)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        place, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / place if place else page
        assert target.exists(), f"{page.name} links to {link}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert heading in map(anchor, headings), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"[\w.-]+(?:/[\w.-]+)+/?", page.read_text()):
        first = name.split("/")[0]
        if first in FOLDERS and first != "results":
            assert (TOP / name.rstrip(".")).exists(), f"{page.name} names {name}"


@pytest.mark.usefixtures("only_parsing")
def test_commands_parse() -> None:
    named = [*commands(), *commands_in_comments()]
    ours = [(page, words) for page, words in named if words[0] == "arc-sweep"]
    assert {"README.md", "data.md", "cluster.yaml", "quickstart.yaml"} <= {page for page, _ in ours}
    for _, words in ours:
        with pytest.raises(_Parsed):  # an unknown option would end in SystemExit
            main(words[1:])


def test_programs_and_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    for page, words in commands():
        while "=" in words[0]:  # VARIABLE=value in front
            words = words[1:]
        program, *rest = words
        if program == "make":
            assert rest[0] in targets, f"{page}: make {rest[0]}"
        elif program == "python":
            assert (TOP / rest[0]).is_file(), f"{page}: python {rest[0]}"
        else:
            assert program in ("arc-sweep", "pip", "ray", "source"), f"{page}: {program}"


def test_sweep_files_on_pages_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOP / "examples"))
    found = [
        (page.name, yaml.safe_load(block))
        for page in PAGES
        if page.name != "add-a-task.md"
        for block in blocks(page, "yaml")
    ]
    assert {"README.md", "search.md", "models.md"} <= {page for page, _ in found}
    for page, part in found:
        resolve(SMALLEST | part, page)


def test_python_on_pages_compiles_and_imports_what_there_is() -> None:
    for page in PAGES:
        if page.name == "add-a-method.md":  # excerpts, compared with their source below
            continue
        for block in blocks(page, "python"):
            compile(block, page.name, "exec")
            imports = [line for line in block.splitlines() if line.startswith(("import", "from"))]
            exec("\n".join(imports), {})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_names_of_tensors_are_described(method: str, model: str) -> None:
    _, table = (TOP / "docs" / "models.md").read_text().split("| method | names |")
    named = re.findall(r"`([^`]+)`", table)
    patterns = [re.sub(r"\{.*?\}|<.*?>", "*", name) for name in named if "." in name]
    patterns += [pattern.replace(".attn.", ".mlp.") for pattern in patterns]  # "the same under"
    patterns += [pattern.replace(".mlp.", ".attn.") for pattern in patterns]
    backbone = outline(Backbone(model, model, "random"))
    with torch.device("meta"):
        adapted = adapt(backbone, method, 2)
    for name in adapter_state(adapted):
        ours = name in backbone.state_dict()  # the backbone's own, in timm's words
        assert ours or any(fnmatchcase(name, pattern) for pattern in patterns), name


def test_the_task_that_the_page_adds_can_be_read(tmp_path: Path) -> None:
    (block,) = blocks(TOP / "docs" / "add-a-task.md", "yaml")
    ((benchmark, entries),) = yaml.safe_load(block).items()
    ((key, entry),) = entries["tasks"].items()
    assert key.startswith(f"{benchmark}/")
    task = Task(key=key, **(entries["every"] | entry))
    folder = tmp_path / task.folders[0]
    folder.mkdir()
    for split in ("train800", "val200", "test"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{split}.png")
        (folder / f"{split}.txt").write_text(f"{split}.png {task.classes - 1}\n")
    source = open_source(task, tmp_path)
    assert [source.size(split) for split in ("train", "val", "test")] == [1, 1, 1]
    assert source.split == "lists"


def test_every_field_of_a_sweep_folder_is_described() -> None:
    page = (TOP / "docs" / "result-format.md").read_text()
    described = set(re.findall(r"`(\w+)`", page))
    folder = TOP / "tests" / "assets" / "sweep-version-1"
    results = (Result, DataInfo, CodeInfo, PackPlan, Study, Trial)
    for record in (*results, Board, Protocol, Row, Spread, Ties, BestOnTest, Reference):
        assert {field.name for field in fields(record)} <= described, record
    for pattern in ("trials/*.json", "packs/*.json"):
        for path in folder.glob(pattern):
            content = json.loads(path.read_text())
            inner = [content.get(part, {}) for part in ("study", "data", "code", "packages")]
            inner += content.get("trials", [])
            for part in (content, *inner):
                assert set(part) <= described, path
    for name in ("test_access.jsonl", "wandb/logged.jsonl"):
        for line in (folder / name).read_text().splitlines():
            assert set(json.loads(line)) <= described, name
    board = json.loads((folder / "leaderboard.json").read_text())
    for part in (board, board["protocol"], *board["rows"], *board["means"]):
        assert set(part) <= described
    for row in board["rows"]:
        assert {*row["test_accuracy"], *row["ties"]} <= described


def test_the_methods_that_the_page_follows_are_as_quoted() -> None:
    methods = TOP / "arc_train" / "methods"
    files = (methods / "repadapter.py", methods / "__init__.py", TOP / "examples/my_methods/ia3.py")
    source = "".join(file.read_text() for file in files)
    for block in blocks(TOP / "docs" / "add-a-method.md", "python"):
        assert block in source

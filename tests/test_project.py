"""What an open project says about itself agrees with itself."""

import re
import tomllib
from pathlib import Path

import yaml

import orchestrator

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    releases = re.findall(r"^## (\d\S*) - (\S+)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert orchestrator.__version__ == citation["version"] == version
    assert releases[0] == (version, str(citation["date-released"]))


def test_one_licence_everywhere() -> None:
    licence = (TOP / "LICENSE").read_text()
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    assert PROJECT["project"]["license"] == citation["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in licence


def test_both_packages_are_typed_and_say_so() -> None:
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]
    assert (TOP / "arc_train" / "py.typed").exists()
    assert (TOP / "orchestrator" / "py.typed").exists()

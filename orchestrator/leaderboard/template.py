"""The HTML templates beside this file, filled in; a style sheet is shared by all pages."""

import re
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent


def fill(name: str, parts: Mapping[str, str]) -> str:
    """A template with each {{part}} filled in, {{style}} among them, in one pass.

    What is filled in is never searched for placeholders.
    """
    known = {"style": (HERE / "page.css").read_text(encoding="utf-8"), **parts}
    template = (HERE / name).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: known[match[1]], template)

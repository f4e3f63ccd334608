"""spec.yaml as a file that is whole or damaged: cut short, it would be valid YAML of another sweep.

Its first line, a comment to YAML, has the digest of all lines below.
"""

from pathlib import Path

from arc_train.digest import digest
from orchestrator.store.record import DamagedFile

_FIRST = "# Resolved by arc-sweep, which compares it with its digest: "


def stamped_spec(text: str) -> str:
    """A resolved spec as spec.yaml has it."""
    return f"{_FIRST}{digest(text.encode()).hex()}\n{text}"


def read_spec(path: Path) -> str:
    """The text of spec.yaml. Version 0.1 wrote no digest; its first and last keys must be there.

    Raises:
        DamagedFile: it isn't as it was written.
    """
    try:
        first, _, text = path.read_text(encoding="utf-8").partition("\n")
    except UnicodeDecodeError:
        raise DamagedFile(path, "it isn't text") from None
    if first.startswith("name:") and "\nstorage:" in text:
        return f"{first}\n{text}"
    if first != _FIRST + digest(text.encode()).hex():
        raise DamagedFile(path, "its content doesn't match its digest")
    return text

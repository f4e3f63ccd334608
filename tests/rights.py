"""Folders that this process may not write, or not even read, also where root runs the tests."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A new folder that every user can reach: pytest's own are their owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def restricted(folder: Path, mode: int) -> Iterator[None]:
    """A folder with rights of this mode, for a user without privileges."""
    before, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(mode)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(before)

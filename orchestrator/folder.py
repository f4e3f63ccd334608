"""The sweep folder: the only truth of a sweep. Everything else is a projection of these files.

spec.yaml                     the spec as resolved
trials/<trial id>.json        one result, written once, atomically
packs/<pack id>.json, .ckpt   a pack's trials, recorded before it starts; its checkpoint
adapters/<trial id>.safetensors   what the finals learned
test_access.jsonl             a line for each opening of a test split
leaderboard.{json,csv,html}   projections
"""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from arc_train.errors import InputError

Result = dict[str, Any]


class SweepFolder:
    """Reads and writes a sweep's files; used by the driver and by every worker."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec = self.path / "spec.yaml"
        self.trials = self.path / "trials"
        self.packs = self.path / "packs"
        self.adapters = self.path / "adapters"

    def resolved_spec(self) -> Path:
        """The path of spec.yaml, for `orchestrator.spec.load`.

        Raises:
            InputError: the folder has none, so it is no sweep's.
        """
        if not self.spec.is_file():
            raise InputError(f"{self.path} is not a sweep folder: it has no spec.yaml")
        return self.spec

    def create(self) -> None:
        """Make the folders.

        Raises:
            InputError: the place can't be written.
        """
        try:
            for folder in (self.trials, self.packs, self.adapters):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"can't create the sweep folder {self.path}: {error.strerror}; "
                "choose another place with `storage`"
            ) from error

    def results(self) -> dict[str, Result]:
        """All trial results by id.

        Raises:
            InputError: a file is damaged. (Not by us: they are written whole.)
        """
        return {path.stem: _read(path) for path in sorted(self.trials.glob("*.json"))}

    def result(self, trial: str) -> Result | None:
        """One trial's result, or None while it has none."""
        path = self.trials / f"{trial}.json"
        return _read(path) if path.exists() else None

    def write_result(self, result: Result) -> None:
        """Write a trial's result, unless it has one already (a failure may be overwritten).

        Raises:
            InputError: a search trial comes with a test accuracy: something broke the seal.
        """
        if result["kind"] == "search" and result.get("test_accuracy") is not None:
            raise InputError(
                f"search trial {result['id']} comes with a test accuracy: only finals are tested"
            )
        present = self.result(result["id"])
        if present is None or present["status"] == "failed":
            text = json.dumps(result, indent=1, allow_nan=False)
            write_atomically(self.trials / f"{result['id']}.json", text.encode())

    def pack_records(self) -> list[dict[str, Any]]:
        """The packs that were started, in a fixed order."""
        return [_read(path) for path in sorted(self.packs.glob("*.json"))]

    def write_pack(self, record: dict[str, Any]) -> None:
        """Record a pack before it starts."""
        write_atomically(self.packs / f"{record['id']}.json", json.dumps(record, indent=1).encode())

    def checkpoint(self, pack: str) -> Path:
        """Where a pack's checkpoint lies while it is in training."""
        return self.packs / f"{pack}.ckpt"

    def record_test_access(self, entry: dict[str, Any]) -> None:
        """Append a line to test_access.jsonl; one write, so that lines of workers don't mix."""
        line = (json.dumps(entry) + "\n").encode()
        descriptor = os.open(
            self.path / "test_access.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
        )
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged; delete it, and the same command makes it again")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is, whatever happens, either the old one or the whole new one."""
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise

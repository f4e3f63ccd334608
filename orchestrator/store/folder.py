"""The sweep folder: the source of everything that is known of a sweep.

spec.yaml                     the spec as resolved
trials/<trial id>.json        one result, written once, atomically
packs/<pack id>.json, .ckpt   a pack's trials, recorded before it starts; its checkpoint
adapters/<trial id>.safetensors   what the finals learned
test_access.jsonl             a line for each opening of a test split
leaderboard.{json,csv,html}   projections

Of a sweep in object storage each machine keeps a copy below its cache: what it writes goes to both,
and what others wrote is fetched when it is asked for.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arc_train.errors import InputError
from arc_train.tasks.cache import default_folder
from orchestrator.store.access import SplitAccess
from orchestrator.store.pack import PackPlan, pack_text, read_pack
from orchestrator.store.remote import Remote, is_remote, mirror
from orchestrator.store.result import Result, read_result, result_text

AT_ONCE = 16  # objects that are fetched side by side


class SweepFolder:
    """Reads and writes a sweep's files; used by the driver and by every worker.

    place: a folder, or a URI in object storage; `path` is the folder on this machine either way.

    Raises:
        InputError: by the constructor: a URI of no known kind.
    """

    def __init__(self, place: str | Path) -> None:
        remote = is_remote(str(place))
        self.place = str(place) if remote else str(Path(place).expanduser().resolve())
        self._remote = Remote(self.place) if remote else None
        self.path = mirror(self.place, default_folder()) if remote else Path(place).expanduser()
        self.spec = self.path / "spec.yaml"
        self.trials = self.path / "trials"
        self.packs = self.path / "packs"
        self.adapters = self.path / "adapters"

    def resolved_spec(self) -> Path:
        """The path of spec.yaml, for `orchestrator.spec.load`.

        Raises:
            InputError: the folder has none, so it is no sweep's.
        """
        with self._reached():
            self._fetch(self.spec)
        if not self.spec.is_file():
            raise InputError(f"{self.place} is not a sweep folder: it has no spec.yaml")
        return self.spec

    def earlier_spec(self) -> str | None:
        """The text of spec.yaml, if an earlier run left one."""
        self._fetch(self.spec)
        return self.spec.read_text() if self.spec.exists() else None

    def create(self) -> None:
        """Make the folders.

        Raises:
            InputError: the place can't be written.
        """
        if self._remote:
            self._remote.check()
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
            InputError: a file holds no result. (We write them whole.)
        """
        self._fetch_all(self.trials)
        return {path.stem: read_result(path) for path in sorted(self.trials.glob("*.json"))}

    def result(self, trial: str) -> Result | None:
        """One trial's result, or None while it has none."""
        path = self.trials / f"{trial}.json"
        self._fetch(path)
        return read_result(path) if path.exists() else None

    def write_result(self, result: Result) -> None:
        """Write a trial's result, unless it has one already (a failure may be overwritten).

        Raises:
            InputError: a search trial comes with a test accuracy: something broke the seal.
        """
        if result.kind == "search" and result.test_accuracy is not None:
            raise InputError(
                f"search trial {result.id} comes with a test accuracy: only finals are tested"
            )
        present = self.result(result.id)
        if present is None or present.status == "failed":
            self.write(self.trials / f"{result.id}.json", result_text(result).encode())

    def pack_records(self) -> list[PackPlan]:
        """The packs that were started, in a fixed order."""
        self._fetch_all(self.packs)
        return [read_pack(path) for path in sorted(self.packs.glob("*.json"))]

    def write_pack(self, plan: PackPlan) -> None:
        """Record a pack before it starts."""
        self.write(self.packs / f"{plan.id}.json", pack_text(plan).encode())

    def load_checkpoint(self, pack: str) -> bytes | None:
        """A pack's checkpoint, if it has one."""
        path = self._checkpoint(pack)
        if self._remote:  # the one here may be older than that of another machine
            return self._remote.get(self._name(path))
        return path.read_bytes() if path.exists() else None

    def save_checkpoint(self, pack: str, content: bytes) -> None:
        """Keep a pack's checkpoint, in place of an earlier one."""
        if self._remote:
            self._remote.put(self._name(self._checkpoint(pack)), content)
        else:
            write_atomically(self._checkpoint(pack), content)

    def drop_checkpoint(self, pack: str) -> None:
        """Delete a pack's checkpoint."""
        if self._remote:
            self._remote.delete(self._name(self._checkpoint(pack)))
        self._checkpoint(pack).unlink(missing_ok=True)

    def adapter(self, trial: str) -> Path:
        """Where a final's adapter lies, fetched if it isn't here."""
        path = self.adapters / f"{trial}.safetensors"
        if not path.exists():
            self._fetch(path)
        return path

    def record_test_access(self, access: SplitAccess) -> None:
        """Append a line to test_access.jsonl; one write, so that lines of workers don't mix.

        Objects can't be appended to: there each line is one, until `collect` joins them.
        """
        if self._remote:
            name = f"test_access/{time.time_ns()}-{access.pack}-{os.getpid()}.json"
            self._remote.put(name, access.line())
            return
        line = access.line() + b"\n"
        descriptor = os.open(
            self.path / "test_access.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
        )
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def collect(self) -> None:
        """Make test_access.jsonl of what the workers put into object storage."""
        if not self._remote:
            return
        with self._reached():
            names = sorted(self._remote.list("test_access"))
            lines = [line for name in names if (line := self._remote.get(name))]
            if lines:
                self.write(self.path / "test_access.jsonl", b"\n".join([*lines, b""]))

    def write(self, path: Path, content: bytes) -> None:
        """Write one of the folder's files, whole, here and where it belongs."""
        write_atomically(path, content)
        if self._remote:
            with self._reached():
                self._remote.put(self._name(path), content)

    def _checkpoint(self, pack: str) -> Path:
        return self.packs / f"{pack}.ckpt"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def _fetch(self, path: Path) -> None:
        """Bring a file as it is in object storage now."""
        if not self._remote:
            return
        with self._reached():
            content = self._remote.get(self._name(path))
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)

    def _fetch_all(self, folder: Path) -> None:
        """Bring the JSON files of a folder that are new, or newer than here."""
        if not self._remote:
            return
        with self._reached():
            listed = self._remote.list(self._name(folder))
        missing = [
            path
            for name, changed in listed.items()
            if (path := self.path / name).suffix == ".json"
            and not (path.exists() and path.stat().st_mtime > changed)
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._fetch, missing))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"storage {self.place} can't be reached: {error}; what is finished is there, and "
                "the same command goes on"
            ) from error


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

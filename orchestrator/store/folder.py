"""The sweep folder: the source of everything that is known of a sweep.

spec.yaml                     the spec as resolved
trials/<trial id>.json        one result, written once, atomically
packs/<pack id>.json, .ckpt   a pack's trials, recorded before it starts; its checkpoint
adapters/<trial id>.safetensors   what the finals learned
predictions/<trial id>.npz    what the finals answered on the test images
test_access.jsonl             a line for each opening of a test split
leaderboard.{json,csv,html}   projections
damaged/                      files that were not as they had been written, set aside

Of a sweep in object storage each machine keeps a copy below its cache: what it writes goes to both,
and what others wrote is fetched when it is asked for.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arc_train.digest import stamp, verify
from arc_train.errors import InputError
from arc_train.predictions import Predictions
from arc_train.tasks.cache import default_folder
from orchestrator.store.access import SplitAccess
from orchestrator.store.atomic import write_atomically
from orchestrator.store.pack import PackPlan, pack_text, read_pack
from orchestrator.store.record import DamagedFile, N, Unreadable, named, read_each
from orchestrator.store.remote import Remote, is_remote, mirror
from orchestrator.store.resolved_spec import stamped_spec
from orchestrator.store.result import Result, read_result, result_text

AT_ONCE = 16  # objects that are fetched side by side


class Unwritable(InputError):
    """A file of a sweep can't be written: no room, no rights. What is finished is kept."""


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
        self.predictions = self.path / "predictions"
        self._known: dict[str, tuple[tuple[int, ...], Result]] = {}

    def fetched_spec(self) -> Path | None:
        """The path of spec.yaml, for `orchestrator.spec`; None where there is none."""
        self.fetch(self.spec)
        return self.spec if self.spec.is_file() else None

    def write_spec(self, text: str) -> None:
        """Keep the spec as resolved."""
        self.write(self.spec, stamped_spec(text).encode())

    def create(self) -> None:
        """Make the folders.

        Raises:
            InputError: the place can't be written.
        """
        if self._remote:
            self._remote.check()
        try:
            for folder in (self.trials, self.packs, self.adapters, self.predictions):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"can't create the sweep folder {self.path}: {error.strerror}; "
                "choose another place with `storage`"
            ) from error

    def results(self) -> dict[str, Result]:
        """All trial results by id.

        Raises:
            Unreadable: a file holds no result, or that of another trial: a copy is no result.
        """
        results, unreadable = self.survey()
        if unreadable:
            raise unreadable[0]
        return results

    def survey(self) -> tuple[dict[str, Result], list[Unreadable]]:
        """All results that can be read, by id, and what is wrong with the other files."""
        self._fetch_all(self.trials)
        results, unreadable = read_each(self.trials, self._kept)
        return {result.id: result for result in results}, unreadable

    def result(self, trial: str) -> Result | None:
        """One trial's result, or None while it has none."""
        path = self.trials / f"{trial}.json"
        self.fetch(path)
        return self._result(path) if path.exists() else None

    def write_result(self, result: Result) -> None:
        """Write a trial's result, unless it has one already (a failure may be overwritten).

        Raises:
            InputError: a search trial comes with a test accuracy: something broke the seal.
        """
        if result.kind == "search" and result.test_accuracy is not None:
            raise InputError(
                f"search trial {result.id} comes with a test accuracy: only finals are tested"
            )
        try:
            present = self.result(result.id)
        except DamagedFile:
            present = None
        if present is None or present.status == "failed":
            self.write(self.trials / f"{result.id}.json", result_text(result).encode())

    def pack_records(self) -> list[PackPlan]:
        """The packs that were started, in a fixed order.

        Raises:
            Unreadable: a file holds no pack. (We write them whole.)
        """
        packs, unreadable = self.survey_packs()
        if unreadable:
            raise unreadable[0]
        return packs

    def survey_packs(self) -> tuple[list[PackPlan], list[Unreadable]]:
        """The packs whose records can be read, and what is wrong with the other files."""
        self._fetch_all(self.packs)
        return read_each(self.packs, self._pack)

    def write_pack(self, plan: PackPlan) -> None:
        """Record a pack before it starts."""
        self.write(self.packs / f"{plan.id}.json", pack_text(plan).encode())

    def load_checkpoint(self, pack: str) -> bytes | None:
        """A pack's checkpoint, if it has one.

        Raises:
            Damaged: it isn't as it was saved.
        """
        path = self._checkpoint(pack)
        if self._remote:  # the one here may be older than that of another machine
            saved = self._remote.get(self._name(path))
        else:
            saved = path.read_bytes() if path.exists() else None
        return None if saved is None else verify(saved)

    def save_checkpoint(self, pack: str, content: bytes) -> None:
        """Keep a pack's checkpoint, in place of an earlier one."""
        if self._remote:
            self._remote.put(self._name(self._checkpoint(pack)), stamp(content))
        else:
            with _writing(self._checkpoint(pack)):
                write_atomically(self._checkpoint(pack), stamp(content))

    def drop_checkpoint(self, pack: str) -> None:
        """Delete a pack's checkpoint."""
        if self._remote:
            self._remote.delete(self._name(self._checkpoint(pack)))
        self._checkpoint(pack).unlink(missing_ok=True)

    def adapter(self, trial: str) -> Path:
        """Where a final's adapter lies, fetched if it isn't here."""
        path = self.adapters / f"{trial}.safetensors"
        if not path.exists():
            self.fetch(path)
        return path

    def write_predictions(self, trial: str, predictions: Predictions) -> None:
        """Keep what a final answered on the test images."""
        self.write(self.predictions / f"{trial}.npz", predictions.to_bytes())

    def predictions_of(self, trial: str) -> Predictions | None:
        """What a final answered; None where that wasn't kept, or is damaged."""
        path = self.predictions / f"{trial}.npz"
        if not path.exists():
            self.fetch(path)
        try:
            return Predictions.from_bytes(path.read_bytes())
        except (OSError, ValueError):
            return None

    def record_test_access(self, access: SplitAccess) -> None:
        """Append a line to test_access.jsonl; one write, so that lines of workers don't mix.

        Objects can't be appended to: there each line is one, until `collect` joins them.

        Raises:
            Unwritable: it isn't there as a whole, so the split must not be opened.
        """
        if self._remote:
            name = f"test_access/{time.time_ns()}-{access.pack}-{os.getpid()}.json"
            self._remote.put(name, access.line())
            return
        path = self.path / "test_access.jsonl"
        with _writing(path), path.open("a+b", buffering=0) as file:
            line = access.line() + b"\n"
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                line = b"\n" + line  # a full disk cut the line before
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def collect(self) -> None:
        """Make test_access.jsonl of what the workers put into object storage."""
        if not self._remote:
            return
        with self._reached():
            names = sorted(self._remote.list("test_access"))
            lines = [line for name in names if (line := self._remote.get(name))]
            if lines:
                self.write(self.path / "test_access.jsonl", b"\n".join([*lines, b""]))

    def set_aside(self, path: Path) -> None:
        """Move a file to damaged/, where none is read."""
        name = self._name(path)
        folder = self.path / "damaged" / Path(name).parent
        folder.mkdir(parents=True, exist_ok=True)
        earlier = sum(1 for _ in folder.glob(f"{path.name}.*"))
        self.write(folder / f"{path.name}.{earlier + 1}", path.read_bytes())
        if self._remote:
            with self._reached():
                self._remote.delete(name)
        path.unlink()

    def _kept(self, path: Path) -> Result:
        """A result, read once as long as its file is the same."""
        about = path.stat()
        same = about.st_ino, about.st_mtime_ns, about.st_size
        known = self._known.get(path.name)
        if known is None or known[0] != same:
            known = self._known[path.name] = same, self._result(path)
        return known[1]

    def _result(self, path: Path) -> Result:
        return self._record(path, read_result)

    def _pack(self, path: Path) -> PackPlan:
        return self._record(path, read_pack)

    def _record(self, path: Path, read: Callable[[Path], N]) -> N:
        """What a file holds; where this machine's copy is damaged, the object is asked."""
        try:
            return named(path, read)
        except DamagedFile:
            if not self._remote:
                raise
        self.fetch(path)
        return named(path, read)

    def write(self, path: Path, content: bytes) -> None:
        """Write one of the folder's files, whole, here and where it belongs.

        Raises:
            Unwritable: it can't be written here.
            InputError: its storage can't be reached.
        """
        with _writing(path):
            write_atomically(path, content)
        if self._remote:
            with self._reached():
                self._remote.put(self._name(path), content)

    def _checkpoint(self, pack: str) -> Path:
        return self.packs / f"{pack}.ckpt"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def fetch(self, path: Path) -> None:
        """Bring a file as it is in object storage now; elsewhere it is here already."""
        if not self._remote:
            return
        with self._reached():
            content = self._remote.get(self._name(path))
        if content is not None:
            with _writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)

    def _fetch_all(self, folder: Path) -> None:
        """Bring the JSON files of a folder that are new, or changed since they were brought.

        A file here has the time that the object had: this machine's clock plays no part.
        """
        if not self._remote:
            return
        with self._reached():
            listed = self._remote.list(self._name(folder))
        missing = {
            path: changed
            for name, changed in listed.items()
            if (path := self.path / name).suffix == ".json"
            and not (path.exists() and path.stat().st_mtime == changed)
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.fetch, missing))
        for path, changed in missing.items():
            if path.exists():
                os.utime(path, (changed, changed))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"storage {self.place} can't be reached: {error}; what is finished is there, and "
                "the same command goes on"
            ) from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(f"can't write {path}: {error.strerror}") from error

"""The lock of a sweep's folder: one driver works in it at a time."""

import contextlib
from collections.abc import Callable, Iterator

from filelock import FileLock, Timeout

from arc_train.errors import InputError
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lease import Lease
from orchestrator.store.remote import is_remote


@contextlib.contextmanager
def locked(folder: SweepFolder, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Hold a sweep's folder as long as the block runs; says so where it can't keep others out.

    Raises:
        InputError: another driver holds it, or nothing can be locked there.
    """
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=1)  # `is_locked` holds it for a moment
    except Timeout:
        raise InputError(
            f"another arc-sweep run is working in {folder.path}; wait for it, or give this sweep "
            "another name"
        ) from None
    except OSError as error:
        raise InputError(
            f"can't lock {folder.path}: {error.strerror}; choose a folder that can be written"
        ) from error
    try:
        with _leased(folder.place, say):
            yield
    finally:
        lock.release()


@contextlib.contextmanager
def _leased(place: str, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other machines out of a place in object storage, too."""
    lease = _lease(place)
    if isinstance(lease, Lease):
        with lease.held():
            if not lease.excludes():
                say(f"{place}: {UNGUARDED}, since its server doesn't heed conditional writes")
            yield
    else:
        if lease:
            say(f"{place}: {UNGUARDED}, {lease}")
        yield


UNGUARDED = "nothing keeps a run on another machine out of it"


def _lease(place: str) -> Lease | str | None:
    """The lease on a place, or why there is none; None for a folder."""
    if not is_remote(place):
        return None
    if not place.startswith("s3://"):
        return "since only S3 has leases"
    try:
        return Lease(place)
    except ImportError:
        return "since boto3 isn't installed: pip install 'arc-sweep[s3]'"


def is_locked(folder: SweepFolder) -> bool:
    """Whether a driver holds the folder, seen from its machine or where locks and leases carry."""
    lease = _lease(folder.place)
    if isinstance(lease, Lease) and lease.is_held():
        return True
    path = folder.path / ".lock"
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a place where nothing can be locked, such as a copy that is read-only
        return False

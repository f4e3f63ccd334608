"""The lock of a sweep's folder: one driver works in it at a time."""

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout

from arc_train.errors import InputError
from orchestrator.store.folder import SweepFolder


@contextlib.contextmanager
def locked(folder: SweepFolder) -> Iterator[None]:
    """Hold a sweep's folder as long as the block runs.

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
        yield
    finally:
        lock.release()


def is_locked(folder: SweepFolder) -> bool:
    """Whether a driver holds the folder, seen from its machine or where locks carry."""
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

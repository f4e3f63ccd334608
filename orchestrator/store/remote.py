"""Object storage (s3://, gs://) through pyarrow: whole objects put, got, listed and deleted.

Credentials and endpoints come from the environment, as the services' own tools take them.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from arc_train.errors import InputError

SCHEMES = ("s3", "gs")
ATTEMPTS = 5  # at what may pass: 1 + 2 + 4 + 8 seconds between them
T = TypeVar("T")


class Remote:
    """The objects below a URI.

    Raises:
        InputError: by the constructor: no such kind of storage, or a URI that is none.
    """

    def __init__(self, uri: str) -> None:
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem

        self.uri = uri
        if not urlsplit(uri).netloc:
            raise InputError(f"storage {uri} names no bucket; use s3://bucket/path")
        try:
            self._system, self._root = FileSystem.from_uri(uri)
        except (ArrowException, OSError) as error:
            raise InputError(
                f"storage {uri}: {error}; use a folder, s3://bucket/path or gs://bucket/path"
            ) from error

    def check(self) -> None:
        """Write, read and delete an object, before anything relies on it.

        Raises:
            InputError: it can't be done; says why.
        """
        try:
            self.put("probe", b"arc-sweep")
            same = self.get("probe") == b"arc-sweep"
            self.delete("probe")
        except OSError as error:
            raise InputError(
                f"storage {self.uri}: can't write there: {error}; check bucket and credentials "
                "(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
            ) from error
        if not same:
            raise InputError(f"storage {self.uri}: what was written there reads otherwise")

    def put(self, name: str, content: bytes) -> None:
        """Write an object: what others read is the old one or the whole new one.

        Raises:
            OSError: not even after some attempts.
        """

        def write() -> None:
            with self._system.open_output_stream(f"{self._root}/{name}") as stream:
                stream.write(content)

        self._patiently(write)

    def get(self, name: str) -> bytes | None:
        """An object's content, or None where there is none.

        Raises:
            OSError: not even after some attempts.
        """

        def read() -> bytes | None:
            try:
                with self._system.open_input_stream(f"{self._root}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._system.delete_file(f"{self._root}/{name}")

        self._patiently(remove)

    def list(self, folder: str) -> dict[str, float]:
        """Names in a folder (`trials/x.json`), with the time of their last change.

        Raises:
            OSError: not even after some attempts.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        found: list[Any] = self._patiently(lambda: self._system.get_file_info(selector))
        return {
            f"{folder}/{info.base_name}": info.mtime_ns / 1e9
            for info in found
            if info.type == FileType.File
        }

    def _patiently(self, do: Callable[[], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return do()
            except OSError as error:
                final = attempt == ATTEMPTS - 1 or "NO_SUCH_BUCKET" in str(error)
                if final or "ACCESS_DENIED" in str(error):
                    raise
                time.sleep(2**attempt)
        raise AssertionError("unreachable")


def is_remote(place: str) -> bool:
    """Whether a place is a URI rather than a folder."""
    return "://" in place


def below(storage: str, name: str) -> str:
    """A sweep's place in a storage, which may end in options: `s3://bucket/x?region=...`."""
    url = urlsplit(storage)
    path = f"{url.path.rstrip('/')}/{name}"
    return url._replace(path=path).geturl()


def mirror(uri: str, cache: Path) -> Path:
    """Where this machine keeps what it has of a place."""
    url = urlsplit(uri)
    return cache / "sweeps" / url.scheme / url.netloc / url.path.strip("/")

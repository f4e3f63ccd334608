"""The lease on a sweep in S3: one driver at a time works there, from whatever machine.

S3 has no locks, but writes under a condition: an object is made only where none is (If-None-Match),
and replaced only while it is the one that was read (If-Match). So one of two drivers makes the
lease. It renews it as long as it runs; a lease that wasn't renewed for a while is taken over. Ages
are told by the server's clock alone.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from arc_train.errors import InputError

RENEWED = 10.0  # seconds between two renewals
STALE = 3 * RENEWED  # seconds without one after which a holder is taken for dead
NOT_THERE = ("NoSuchKey", "404")
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")


@dataclass(frozen=True)
class _Found:
    """A lease as it lies there. age: seconds since its last renewal."""

    etag: str
    owner: str
    holder: str
    released: bool
    age: float

    @property
    def free(self) -> bool:
        return self.released or self.age >= STALE


class Lease:
    """The lease on a place, `s3://bucket/path`.

    Raises:
        ImportError: by the constructor: boto3 isn't installed.
    """

    def __init__(self, place: str) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        url = urlsplit(place)
        options = {key: values[-1] for key, values in parse_qs(url.query).items()}
        endpoint = options.get("endpoint_override")  # as pyarrow calls it
        if endpoint and "://" not in endpoint:
            endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
        self._client = boto3.client("s3", endpoint_url=endpoint, region_name=options.get("region"))
        self._failures = (BotoCoreError, ClientError)
        self._object = {"Bucket": url.netloc, "Key": f"{url.path.strip('/')}/lease.json"}
        self.place, self.lost = place, False
        self._owner, self._etag = uuid.uuid4().hex, ""
        self._leaving = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it as long as the block runs; interrupts the main thread when it is lost.

        Raises:
            InputError: another driver holds it, or has taken it over; or it can't be written.
        """
        self._take()
        renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
        renewal.start()
        try:
            yield
        finally:
            self._leaving.set()
            renewal.join()
            if self.lost:
                raise InputError(
                    f"another arc-sweep run has taken over {self.place}, since this one gave no "
                    f"sign for {STALE:.0f} seconds; what is finished is kept"
                )
            with contextlib.suppress(*self._failures):
                self._write(released=True, IfMatch=self._etag)

    def is_held(self) -> bool:
        """Whether a driver that lives holds it."""
        try:
            found = self._read()
        except self._failures:
            return False
        return found is not None and not found.free

    def excludes(self) -> bool:
        """Whether the server heeds conditions; call it while the lease is held."""
        return not self._write(IfNoneMatch="*")

    def _take(self) -> None:
        seen = None
        try:
            while not self._taken(found := self._read()):
                if found is not None and not found.free:
                    if seen not in (None, found.etag):  # it was renewed: its holder lives
                        raise InputError(
                            f"another arc-sweep run is working in {self.place} ({found.holder}); "
                            "wait for it, or give this sweep another name"
                        )
                    seen = found.etag
                    time.sleep(min(1, RENEWED / 2))
        except self._failures as error:
            raise InputError(f"storage {self.place}: can't write a lease there: {error}") from error

    def _taken(self, found: _Found | None) -> bool:
        if found is None:
            return self._write(IfNoneMatch="*")
        return found.free and self._write(IfMatch=found.etag)

    def _renew(self) -> None:
        while not self._leaving.wait(RENEWED):
            with contextlib.suppress(*self._failures):  # out of reach: the next may come through
                if self._write(IfMatch=self._etag):
                    continue
                found = self._read()
                if found is None or found.owner != self._owner:
                    self.lost = True
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                self._etag = found.etag  # ours, though its answer never came

    def _read(self) -> _Found | None:
        try:
            answer = self._client.get_object(**self._object)
            content = json.loads(answer["Body"].read())
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in NOT_THERE:
                return None
            raise
        except ValueError:
            content = {}  # whatever it is, it holds until it is old
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        age = (now - answer["LastModified"]).total_seconds()
        told = {key: str(content.get(key, "unknown")) for key in ("owner", "holder")}
        return _Found(answer["ETag"], **told, released=content.get("released") is True, age=age)

    def _write(self, released: bool = False, **condition: str) -> bool:
        """Write the lease under a condition; False where that doesn't hold."""
        content = {
            "holder": f"{socket.gethostname()}, process {os.getpid()}",
            "owner": self._owner,
            "renewal": uuid.uuid4().hex,  # so that each is another object
            "released": released,
        }
        try:
            answer: dict[str, Any] = self._client.put_object(
                **self._object, **condition, Body=json.dumps(content).encode()
            )
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in REFUSED:
                return False
            raise
        self._etag = answer["ETag"]
        return True

"""Which Ray cluster a run joins: by RAY_ADDRESS, or as `ray start` noted. Imports no Ray."""

import os
import socket
from pathlib import Path

from arc_train.errors import InputError

REACH = 10  # seconds for a port to open
REMEDY = "RAY_ADDRESS=local starts one for this sweep alone, RAY_ADDRESS=host:6379 joins another"


def running_cluster() -> str | None:
    """The address of the cluster to join, at which something answers; None to start one.

    Raises:
        InputError: RAY_ADDRESS is no address, or nothing answers there.
    """
    asked = os.environ.get("RAY_ADDRESS", "")
    if asked == "local":
        return None
    if asked in ("", "auto"):
        noted = _noted()
        if noted and refusal(noted) is None:
            return noted
        if asked:
            raise InputError(f"RAY_ADDRESS is auto, but no Ray cluster runs here; {REMEDY}")
        return None
    host, colon, port = asked.rpartition(":")
    if not (host and colon and port.isdigit()) or "/" in asked:
        raise InputError(
            f"RAY_ADDRESS {asked!r} is no address of a Ray cluster's head, such as 10.0.0.1:6379 "
            f"(for http://, where the dashboard is: `arc-sweep run --submit`); {REMEDY}"
        )
    if reason := refusal(asked):
        raise InputError(f"no Ray cluster answers at RAY_ADDRESS {asked}: {reason}; {REMEDY}")
    return asked


def _noted() -> str | None:
    """Where `ray start` noted this machine's cluster, which may have ended."""
    base = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        return (Path(base) / "ray" / "ray_current_cluster").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def refusal(address: str) -> str | None:
    """Why nothing can be reached at an address; None where something answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
    except (OSError, OverflowError, ValueError) as error:
        return str(error)
    return None

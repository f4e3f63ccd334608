"""W&B's own file of a run, to which its service writes behind our back.

A `.wandb` file is a LevelDB log: a 7-byte header, then blocks of 32 KiB with records of (CRC-32 4
bytes, length 2, kind 1, content); a record may be split over blocks. Each is a protobuf `Record`.
wandb itself has no reader in Python any more.
"""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

HEADER, BLOCK = 7, 32768
FULL, FIRST, LAST = 1, 2, 4


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file, as far as it is written."""
    position, parts = HEADER, b""
    while position + 7 <= len(content):
        left = BLOCK - position % BLOCK
        if left < 7:  # too little for a record's header: the rest of the block is padding
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        part = content[position + 7 : position + 7 + length]
        position += 7 + length
        parts = part if kind in (FULL, FIRST) else parts + part
        if kind in (FULL, LAST) and position <= len(content):
            yield parts


def wait_for_end(folder: Path, patience: float) -> None:
    """Wait until the file of the run in a folder has its last record.

    A run that is finished is in its service's memory for a while: killed then, it is lost.

    Raises:
        OSError: it hasn't after so many seconds.
    """
    deadline = time.monotonic() + patience
    while not any(_has_ended(path) for path in folder.glob("*.wandb")):
        if time.monotonic() > deadline:
            raise OSError(f"W&B's file in {folder} has no end")
        time.sleep(0.01)


def _has_ended(path: Path) -> bool:
    from wandb.proto.wandb_internal_pb2 import Record

    found = map(Record.FromString, records(path.read_bytes()))
    return any(record.WhichOneof("record_type") == "exit" for record in found)

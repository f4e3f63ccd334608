"""Digests that show whether a file of ours is still as it was written.

They find torn writes and flipped bits, and don't protect against forgery. XXH3 with 128 bits: at
many gigabytes a second it costs less than a copy, where SHA-256 would cost more than reading.
"""

from xxhash import xxh3_128

SIZE = 16  # bytes of a digest
_MAGIC = b"arc-sweep stamped 1\n"


class Damaged(ValueError):
    """A file isn't as it was written."""


def digest(*parts: bytes | memoryview) -> bytes:
    """The digest of some bytes in one or several parts, SIZE bytes long."""
    whole = xxh3_128()
    for part in parts:
        whole.update(part)
    return whole.digest()


def stamp(content: bytes) -> bytes:
    """Some bytes with their digest before them, as `verify` takes them."""
    return _MAGIC + digest(content) + content


def verify(stamped: bytes) -> bytes:
    """The bytes that were stamped.

    Raises:
        Damaged: they were changed, cut short or extended, or never stamped.
    """
    start = len(_MAGIC) + SIZE
    content = stamped[start:]
    if not stamped.startswith(_MAGIC):
        raise Damaged("it has no digest")
    if stamped[len(_MAGIC) : start] != digest(content):
        raise Damaged("its content doesn't match its digest")
    return content

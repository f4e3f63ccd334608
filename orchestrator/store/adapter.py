"""A final's adapter as a safetensors file, whose metadata have a digest of all else in it."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from arc_train.digest import Damaged, digest
from arc_train.errors import InputError
from orchestrator.store.record import DamagedFile

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "arc-sweep 1"
_SIZE = struct.Struct("<Q")  # of the header, which comes next: names, types, shapes, places
_ABOUT = {"format", "backbone", "method", "task"}


def adapter_bytes(tensors: dict[str, "Tensor"], study: Mapping[str, str]) -> bytes:
    """A file's content: contiguous tensors by name, and the study that they belong to."""
    from safetensors.torch import save  # torch is slow to import

    about = {"format": FORMAT, **study}
    content: bytes = save(tensors, {**about, "digest": _split(save(tensors, about))[1]})
    return content


def read_adapter(path: Path) -> dict[str, "Tensor"]:
    """The tensors of an adapter's file. Those that have no digest yet are read as they are.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from safetensors.torch import load

    try:
        check_adapter(path)
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"there is no adapter {path}: has it been moved?") from None
    except (OSError, DamagedFile) as error:
        raise InputError(
            f"{error}; the command that ran the sweep trains this final again"
        ) from error
    return tensors


def check_adapter(path: Path) -> None:
    """Compare an adapter's file with its digest; one without is checked to have all its tensors.

    Raises:
        DamagedFile: it isn't as it was written.
        OSError: it can't be read.
    """
    from safetensors import SafetensorError, deserialize

    content = path.read_bytes()
    try:
        deserialize(content)  # type: ignore[no-untyped-call]
        _verify(content)
    except (ValueError, SafetensorError) as error:
        raise DamagedFile(path, str(error)) from error


def _verify(content: bytes) -> None:
    about, found = _split(content)
    says = about.pop("digest", None)
    if about.keys() != _ABOUT:  # or a flipped bit could make the digest's name another
        raise Damaged("its metadata aren't those of an adapter")
    if says is not None and says != found:
        raise Damaged("its content doesn't match its digest")


def _split(content: bytes) -> tuple[dict[str, str], str]:
    """The metadata, and the digest of all but the digest."""
    (size,) = _SIZE.unpack_from(content)
    header = json.loads(content[_SIZE.size : _SIZE.size + size])
    about = header.get("__metadata__", {})
    header["__metadata__"] = {key: value for key, value in about.items() if key != "digest"}
    said = json.dumps(header, sort_keys=True).encode()
    return about, digest(said, memoryview(content)[_SIZE.size + size :]).hex()

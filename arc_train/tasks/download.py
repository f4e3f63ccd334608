"""Fetches the ready archives of VTAB-1k and of the FGVC lists from the hub into a data root.

Nothing appears in the root before the whole archive has arrived and was found safe to unpack; a
task's folder appears whole, by renaming. What is there already is kept. A fetch that was cut off,
even with its process, goes on where it stopped: `hf_hub_download` of huggingface_hub 2 begins
again, so its parts are used instead.
"""

import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from arc_train.errors import InputError
from arc_train.tasks.catalog import Task, catalog, groups

BLOCK = 1 << 20  # bytes copied at a time
SPARE = 1.1  # an archive's files take more room than their bytes


@dataclass(frozen=True)
class Archive:
    """A file on the hub. kinds: of its repository, as links in its authors' code have it first."""

    group: str
    repository: str
    file: str
    kinds: tuple[str, ...]


ARCHIVES = {
    "vtab": Archive("vtab", "XiN0919/VTAB-1k", "vtab-1k.zip", ("model", "dataset")),
    "fgvc-lists": Archive("fgvc", "XiN0919/FGVC", "json.zip", ("dataset", "model")),
}


@dataclass(frozen=True)
class Download:
    """What a download left in the root: new and kept folders by task; fetched: anything at all."""

    placed: dict[str, str]
    kept: dict[str, str]
    fetched: bool


def download(
    name: str,
    root: Path,
    say: Callable[[str], None] = lambda text: None,
    unpacked: Callable[[int, int], None] = lambda done, total: None,
) -> Download:
    """Fetch an archive of `ARCHIVES` and put its tasks' folders into the root.

    say: called with what is about to happen and the room it takes.
    unpacked: called with the bytes unpacked so far, and all of them.

    Raises:
        InputError: no connection, no such file, no room, or an archive that is damaged or unsafe.
    """
    archive = ARCHIVES[name]
    work = root / f".arc-sweep-{name}"  # the archive until it is unpacked, then only its receipt
    receipt = work / "receipt.json"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock"):
            if receipt.exists():
                folders: dict[str, str] = json.loads(receipt.read_text())["folders"]
                if all((root / folder).is_dir() for folder in folders.values()):
                    return Download({}, folders, fetched=False)
            path = _fetch(archive, work, say)
            scratch = work / "unpacked"
            shutil.rmtree(scratch, ignore_errors=True)
            try:
                found = _unpack(archive, path, scratch, say, unpacked)
                placed, kept = _place(found, scratch, root)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            about = {"repository": archive.repository, "file": archive.file}
            _write(receipt, json.dumps({**about, "folders": placed | kept}))
            path.unlink()
    except OSError as error:
        raise InputError(f"can't write into {root}: {error}") from error
    return Download(placed, kept, fetched=True)


def _write(path: Path, text: str) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    os.replace(scratch, path)


def _fetch(archive: Archive, work: Path, say: Callable[[str], None]) -> Path:
    """The whole archive on this machine. A part of it is named by its ETag, so never mixed up."""
    from huggingface_hub.file_download import http_get

    path = work / archive.file
    if path.exists():
        return path
    metadata = _locate(archive)
    size = metadata.size
    part = work / f"{metadata.etag}.part"
    begun = part.stat().st_size if part.exists() else 0
    for other in set(work.glob("*.part")) - {part}:
        other.unlink()
    free = shutil.disk_usage(work).free
    already = f" ({begun / 1e6:,.0f} MB of it are here)" if begun else ""
    say(
        f"{archive.file} of {archive.repository}: {size / 1e6:,.0f} MB to fetch{already} and about "
        f"as much to unpack, {free / 1e6:,.0f} MB free in {work.parent}"
    )
    if 2 * size - begun > free:  # images hardly get smaller in an archive
        raise InputError(
            f"{work.parent} has no room: {archive.file} takes {size / 1e9:.2f} GB and as much "
            f"again to unpack, {free / 1e9:.2f} GB are free; choose another --root"
        )
    try:
        with part.open("ab") as file:
            http_get(metadata.location, file, resume_size=begun, expected_size=size)
    except _network_errors() as error:
        here = part.stat().st_size
        raise InputError(
            f"{archive.file} was cut off at {here / 1e6:,.0f} of {size / 1e6:,.0f} MB: {error}; "
            "the same command goes on from there"
        ) from error
    os.replace(part, path)
    return path


def _locate(archive: Archive) -> Any:
    """The file's address, size and ETag."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
    )

    byhand = f"or get {archive.file} elsewhere and unpack it into --root"
    for kind in archive.kinds:
        url = hf_hub_url(archive.repository, archive.file, repo_type=kind)
        try:
            metadata = get_hf_file_metadata(url)
        except RepositoryNotFoundError:
            continue
        except RemoteEntryNotFoundError as error:
            raise InputError(
                f"the hub's {archive.repository} has no {archive.file} any more ({url}); {byhand}"
            ) from error
        except OfflineModeIsEnabled as error:
            raise InputError(
                "HF_HUB_OFFLINE is set, so nothing can be fetched; unset it, " + byhand
            ) from error
        except _network_errors() as error:
            raise InputError(
                f"can't reach {url}: {error}; check the connection and run the same command "
                f"again, {byhand}"
            ) from error
        if metadata.size is None or metadata.etag is None:
            raise InputError(f"{url} doesn't say what it holds; check HF_ENDPOINT and proxies")
        return metadata
    raise InputError(
        f"the hub has no repository {archive.repository} that you may read (asked for a "
        f"{' and a '.join(archive.kinds)}): get {archive.file} elsewhere and unpack it into --root"
    )


def _network_errors() -> tuple[type[Exception], ...]:
    """OSError, and the error of whichever HTTP library huggingface_hub uses in this release."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))


def _unpack(
    archive: Archive,
    path: Path,
    scratch: Path,
    say: Callable[[str], None],
    unpacked: Callable[[int, int], None],
) -> dict[Task, Path]:
    """Unpack all tasks' folders into `scratch`, whatever folders lie around them in the archive.

    An archive that is damaged or unsafe is deleted, so that the next call fetches it again.
    """
    try:
        with zipfile.ZipFile(path) as file:
            entries = _entries(archive, file)
            total = sum(entry.file_size for entry in entries.values())
            free = shutil.disk_usage(path.parent).free
            say(f"{len(entries):,} files to unpack, {total / 1e6:,.0f} MB")
            if total * SPARE > free:
                raise InputError(
                    f"{path.parent.parent} has no room to unpack {archive.file}: its files take "
                    f"{total / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
                )
            done = 0
            for place, entry in entries.items():
                target = scratch / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, BLOCK)
                done += entry.file_size
                unpacked(done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        path.unlink()
        raise InputError(
            f"{archive.file} can't be used: {error}. Nothing was unpacked and it was deleted; the "
            "same command fetches it again"
        ) from error
    return {
        task: scratch / folder
        for task in _tasks(archive)
        for folder in task.folders
        if (scratch / folder).is_dir()
    }


def _tasks(archive: Archive) -> list[Task]:
    return [catalog()[key] for key in groups()[archive.group]]


def _entries(archive: Archive, file: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The tasks' files by their places below the root; nothing has been written yet.

    Raises:
        BadZipFile: an entry isn't a plain file or could leave the folder, two have one place, or
            no folder is a task's.
    """
    known = {name.casefold(): name for task in _tasks(archive) for name in task.folders}
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in file.infolist():
        if unsafe := _unsafe(entry):
            raise zipfile.BadZipFile(f"its entry {entry.orig_filename!r} {unsafe}")
        parts = PurePosixPath(entry.filename).parts
        if entry.is_dir() or "__MACOSX" in parts:
            continue
        depth = next((i for i, part in enumerate(parts[:-1]) if part.casefold() in known), None)
        if depth is None:
            continue
        place = PurePosixPath(known[parts[depth].casefold()], *parts[depth + 1 :])
        if place in found:
            raise zipfile.BadZipFile(
                f"both its entries {found[place].filename!r} and {entry.filename!r} are {place}"
            )
        found[place] = entry
    if not found:
        tops = sorted({name.split("/")[0] for name in file.namelist()})
        raise zipfile.BadZipFile(
            f"it holds no folder of a {archive.group} task, only "
            f"{', '.join(tops[:5]) or 'nothing'}; such folders are {', '.join(known.values())}"
        )
    return found


def _unsafe(entry: zipfile.ZipInfo) -> str | None:
    name = entry.orig_filename
    if "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        return "isn't a portable path"
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "leaves the folder"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if entry.flag_bits & 1 else None


def _place(
    found: dict[Task, Path], scratch: Path, root: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Move tasks' folders into the root: new ones, and those that were there already.

    A task's folder that is there already keeps its files; lists of FGVC tasks, whose images come
    separately, are added where they are missing.
    """
    placed, kept = {}, {}
    for task, folder in found.items():
        there = next((root / name for name in task.folders if (root / name).is_dir()), None)
        if there is None:
            os.replace(folder, root / folder.name)
            placed[task.key] = folder.name
            continue
        kept[task.key] = there.name
        for path in folder.glob("*.json") if task.group == "fgvc" else ():
            if not (there / path.name).exists():
                os.replace(path, there / path.name)
                placed[task.key] = there.name
                kept.pop(task.key, None)
    return placed, kept

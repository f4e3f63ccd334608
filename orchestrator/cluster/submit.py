"""Runs a sweep on a Ray cluster from outside: as a job there, whose log is followed from here.

The sweep file goes along with the job. Folders, files and ${variables} that it names are those of
the cluster's machines.
"""

import asyncio
import copy
import hashlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from arc_train.errors import InputError
from orchestrator.spec import read, resolve

DEFAULT = "http://127.0.0.1:8265"
SECRETS = ("WANDB_API_KEY", "HF_TOKEN")
NO_PATHS = ("hub", "stand-ins", "timm", "random")


class Detached(Exception):
    """Nobody follows the job any more; it goes on. The message says how to follow it again."""


def submit(path: str, overrides: list[str], address: str | None) -> int:
    """Run the sweep as a job, or find it running, and print its log until it ends.

    address: the dashboard's; by default that of the environment, or DEFAULT.

    Returns:
        The exit code of `arc-sweep run` there; 130 if the job was stopped.

    Raises:
        InputError: a sweep file that can't work there, or no cluster at the address.
        Detached: on Ctrl-C, or when the connection is lost.
    """
    raw = read(path, overrides)
    name = _check(raw, path)
    client, address = _connect(address)
    from aiohttp import ClientError  # Ray's launcher brings it

    text = yaml.safe_dump(raw, sort_keys=False)
    try:
        job = _running_or_new(client, name, raw["storage"], text)
    except (OSError, RuntimeError) as error:
        raise InputError(f"the cluster at {address} takes no job: {error}") from error
    print(f"job {job} at {address}", flush=True)
    try:
        return asyncio.run(_follow(client, job))
    except (KeyboardInterrupt, OSError, RuntimeError, ClientError) as error:
        lost = f"lost the connection ({error}); while the cluster is up, "
        why = "" if isinstance(error, KeyboardInterrupt) else lost
        raise Detached(
            f"{why}the sweep goes on as {job}. To follow it again: the same command, or\n"
            f"  ray job logs --follow --address {address} {job}\n"
            f"How far it is: arc-sweep status, on the cluster. To end it, to go on later:\n"
            f"  ray job stop --address {address} {job}"
        ) from None


def _check(raw: dict[str, Any], where: str) -> str:
    """Refuse here what would be refused there; returns the sweep's name."""
    faults = []
    here = copy.deepcopy(raw)  # with places that are no fault on this machine
    for mapping, key, full in _paths(here):
        value = mapping.get(key, "results" if key == "storage" else None)
        if isinstance(value, str) and value not in NO_PATHS:
            if not value.startswith(("/", "~", "${", "stand-ins/", "s3://", "gs://")):
                faults.append(
                    f"{full} {value!r} is relative, but the sweep runs on the cluster: give the "
                    f"path of a place there that every node sees, such as /shared/{value}, in "
                    f"{where} or with --set {full}=..."
                )
            mapping[key] = "random" if key == "weights" else "/"
    spec = resolve(here, where)
    if faults:
        raise InputError("\n".join(faults))
    return spec.name


def _paths(raw: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """What a sweep file may name by path: the mapping that has it, the key there, and in full."""
    yield raw, "storage", "storage"
    if isinstance(raw.get("data"), dict):
        yield raw["data"], "root", "data.root"
        yield raw["data"], "cache", "data.cache"
    backbones = raw.get("backbones", raw.get("backbone"))
    for i, backbone in enumerate(backbones if isinstance(backbones, list) else [backbones]):
        if isinstance(backbone, dict):
            yield backbone, "weights", f"backbones[{i}].weights"


def _connect(address: str | None) -> tuple[Any, str]:
    """A client of the cluster's dashboard, and the dashboard's address."""
    from ray.job_submission import JobSubmissionClient

    asked = (address, os.environ.get("RAY_API_SERVER_ADDRESS"), os.environ.get("RAY_ADDRESS"))
    address = next((one for one in asked if one), DEFAULT)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray prefers the environment to what it's told
    for part in ("", ".dashboard.modules.dashboard_sdk", ".dashboard.modules.job.sdk"):
        logging.getLogger(f"ray{part}").setLevel(logging.WARNING)  # not each package it uploads
    try:
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"expected an address such as {DEFAULT}")
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        socket.create_connection((url.hostname, port), timeout=10).close()  # Ray's has no end
        return JobSubmissionClient(address), address
    except Exception as error:  # many kinds: Ray passes on those of the libraries it uses
        reason = " ".join(str(error).split())
        raise InputError(
            f"no Ray dashboard at {address}: {reason}; `ray dashboard cluster.yaml`, left running "
            f"in another terminal, brings that of your cluster to {DEFAULT}; for one elsewhere, "
            "--submit ADDRESS"
        ) from error


def _running_or_new(client: Any, name: str, storage: str, text: str) -> str:
    """The job that runs this sweep now, or a new one."""
    ours = f"{name}-{_digest(storage)}-"
    earlier = {
        int(job.submission_id.removeprefix(ours)): job
        for job in client.list_jobs()
        if job.submission_id and job.submission_id.startswith(ours)
    }
    for number, job in earlier.items():
        if not job.status.is_terminal():
            running = f"{ours}{number}"
            if job.metadata.get("sweep") == _digest(text):
                return running
            raise InputError(
                f"this sweep runs already as {running}, of another sweep file or --set; wait until "
                f"it ends, or `ray job stop {running}`, and run this again"
            )
    with tempfile.TemporaryDirectory(prefix="arc-sweep-") as folder:
        (Path(folder) / f"{name}.yaml").write_text(text, encoding="utf-8")
        new: str = client.submit_job(
            submission_id=f"{ours}{max(earlier, default=0) + 1}",
            entrypoint=f"arc-sweep run {name}.yaml",
            metadata={"sweep": _digest(text)},
            runtime_env={
                "working_dir": folder,
                "env_vars": {key: os.environ[key] for key in SECRETS if os.environ.get(key)},
            },
        )
    return new


async def _follow(client: Any, job: str) -> int:
    """Print the job's log from its beginning; returns the exit code when it ends."""
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
    while not (info := client.get_job_info(job)).status.is_terminal():
        await asyncio.sleep(0.2)
    if info.status == "STOPPED":
        return 130
    if info.driver_exit_code is None:
        raise InputError(f"job {job} could not run: {info.message}")
    code: int = info.driver_exit_code
    return code


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]

"""Runs a sweep as a job on a Ray cluster and follows its log from this machine.

The job carries the sweep file. The folders, files and ${variables} in it are resolved on the
cluster's machines.
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
NOT_PATHS = ("hub", "stand-ins", "timm", "random")


class Detached(Exception):
    """The job is no longer followed, but goes on; the message says how to follow it again."""


def submit(path: str, overrides: list[str], address: str | None) -> int | None:
    """Start the sweep as a job, or find its running job, and print the log until the job ends.

    address: of the dashboard; if empty, the environment's, else DEFAULT.

    Returns:
        The exit code of `arc-sweep run` on the cluster; None if the job was stopped.

    Raises:
        InputError: the sweep file can't work on the cluster, or the address has no cluster.
        Detached: Ctrl-C was pressed, or the connection was lost.
    """
    raw = read(path, overrides)
    name = _check(raw, path)
    client, address = _connect(address)
    from aiohttp import ClientError  # a dependency of ray[default]

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
    """Refuse here what the cluster would refuse; returns the sweep's name."""
    faults = []
    local = copy.deepcopy(raw)  # with paths that are valid on this machine
    for mapping, key, full in _paths(local):
        value = mapping.get(key, "results" if key == "storage" else None)
        if isinstance(value, str) and value not in NOT_PATHS:
            if not value.startswith(("/", "~", "${", "stand-ins/", "s3://", "gs://")):
                faults.append(
                    f"{full} {value!r} is relative, but the sweep runs on the cluster: give the "
                    f"path of a place there that every node sees, such as /shared/{value}, in "
                    f"{where} or with --set {full}=..."
                )
            mapping[key] = "random" if key == "weights" else "/"
    spec = resolve(local, where)
    if faults:
        raise InputError("\n".join(faults))
    return spec.name


def _paths(raw: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every entry that may hold a path: its mapping, its key there, and its full key."""
    yield raw, "storage", "storage"
    if isinstance(raw.get("data"), dict):
        yield raw["data"], "root", "data.root"
        yield raw["data"], "cache", "data.cache"
    tasks = raw.get("tasks")
    for i, task in enumerate(tasks if isinstance(tasks, list) else [tasks]):
        for key in ("folder", "list", "dataset") if isinstance(task, dict) else ():
            if key in task and (key != "dataset" or str(task[key]).startswith(".")):
                yield task, key, f"tasks[{i}].{key}"
    backbones = raw.get("backbones", raw.get("backbone"))
    for i, backbone in enumerate(backbones if isinstance(backbones, list) else [backbones]):
        if isinstance(backbone, dict):
            yield backbone, "weights", f"backbones[{i}].weights"


def _connect(address: str | None) -> tuple[Any, str]:
    """A client of the cluster's dashboard, and its address."""
    if Path("~/.ray/auth_token").expanduser().exists():
        # Else Ray doesn't show the token that it has; it looks when it is imported.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.job_submission import JobSubmissionClient

    asked = (address, os.environ.get("RAY_API_SERVER_ADDRESS"), os.environ.get("RAY_ADDRESS"))
    address = next((one for one in asked if one), DEFAULT)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray prefers it to its argument
    for part in ("", ".dashboard.modules.dashboard_sdk", ".dashboard.modules.job.sdk"):
        logging.getLogger(f"ray{part}").setLevel(logging.WARNING)  # else it logs every upload
    try:
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"expected an address such as {DEFAULT}")
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        socket.create_connection((url.hostname, port), timeout=10).close()  # Ray has no timeout
        return JobSubmissionClient(address), address
    except Exception as error:  # Ray passes on errors of several libraries
        reason = " ".join(str(error).split())
        raise InputError(
            f"no Ray dashboard at {address}: {reason}; `ray dashboard cluster.yaml`, left running "
            f"in another terminal, brings that of your cluster to {DEFAULT}; for one elsewhere, "
            "--submit ADDRESS"
        ) from error


def _running_or_new(client: Any, name: str, storage: str, text: str) -> str:
    """The id of the job that runs this sweep now, or of a new one."""
    prefix = f"{name}-{_digest(storage)}-"
    earlier = {
        int(job.submission_id.removeprefix(prefix)): job
        for job in client.list_jobs()
        if job.submission_id and job.submission_id.startswith(prefix)
    }
    for number, job in earlier.items():
        if not job.status.is_terminal():
            running = f"{prefix}{number}"
            if job.metadata.get("sweep") == _digest(text):
                return running
            raise InputError(
                f"this sweep runs already as {running}, of another sweep file or --set; wait until "
                f"it ends, or `ray job stop {running}`, and run this again"
            )
    with tempfile.TemporaryDirectory(prefix="arc-sweep-") as folder:
        (Path(folder) / f"{name}.yaml").write_text(text, encoding="utf-8")
        new: str = client.submit_job(
            submission_id=f"{prefix}{max(earlier, default=0) + 1}",
            entrypoint=f"arc-sweep run {name}.yaml",
            metadata={"sweep": _digest(text)},
            runtime_env={
                "working_dir": folder,
                "env_vars": {key: os.environ[key] for key in SECRETS if os.environ.get(key)},
            },
        )
    return new


async def _follow(client: Any, job: str) -> int | None:
    """Print the job's whole log; returns its exit code when it ends, None if it was stopped."""
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
    while not (info := client.get_job_info(job)).status.is_terminal():
        await asyncio.sleep(0.2)
    if info.status == "STOPPED":
        return None
    if info.driver_exit_code is None:
        raise InputError(f"job {job} could not run: {info.message}")
    code: int = info.driver_exit_code
    return code


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]

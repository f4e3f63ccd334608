"""A stand-in for W&B's server: enough for the real client online, and a memory of what it was sent.

It shows what the client sends, again and again where it has to; what the real service makes of it
can't be seen here.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4  # shorter ones are refused by the client


@dataclass
class ServedRun:
    """One run, as far as it has arrived. rows: of its history, by line number."""

    id: str
    project: str
    starts: int = 0
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    files: set[str] = field(default_factory=set)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows in order, without the client's own columns."""
        rows = [self.rows[number] for number in sorted(self.rows)]
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]


class WandbServer:
    """Serves on 127.0.0.1 while its `serving` block runs.

    fault: None, or how every request is answered: "error" (a 500), "hang" (not before it is over).
    """

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.operations: list[str] = []
        self._healthy = threading.Event()
        self._healthy.set()
        self._fault: str | None = None
        self._met = threading.Semaphore(0)  # a count of requests that met the fault
        self.lock = threading.Lock()

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, kind: str | None) -> None:
        self._fault = kind
        (self._healthy.clear if kind == "hang" else self._healthy.set)()

    def meet(self) -> bool:
        """What a request does first: it waits while the server hangs; whether it is refused."""
        if self._fault:
            self._met.release()
        self._healthy.wait()
        return self._fault == "error"

    def mend_after(self, requests: int, seconds: float) -> None:
        """End the fault once so many requests have met it, and some time has passed."""
        for _ in range(requests):
            self._met.acquire()
        time.sleep(seconds)
        self.fault = None

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yields the server's address."""
        http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            self.fault = None
            http.shutdown()
            http.server_close()

    def environment(self) -> dict[str, str]:
        """Variables with which the client comes here and nowhere else."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_MODE": "online",
            "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "0.3",  # seconds; else it sends every 15
        }

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL response."""
        self.operations.append(operation)
        given = given.get("input", given)
        if operation in _FIXED:
            return _FIXED[operation]
        if operation == "GetProjects":
            nodes = [
                {**_PROJECT, "name": name}
                for name in sorted({run.project for run in self.runs.values()})
            ]
            pages = {"endCursor": "", "hasNextPage": False}
            edges = [{"node": node, "cursor": ""} for node in nodes]
            return {"models": {"edges": edges, "pageInfo": pages}}
        if operation == "RunResumeStatus":
            run = self.runs.get(given["name"])
            return {"model": {**_PROJECT, "name": given["project"], "bucket": run and _bucket(run)}}
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": _bucket(self._upsert(given)), "inserted": True}}
        if operation == "CreateRunFiles":
            return {
                "createRunFiles": {
                    "runID": given["run"],
                    "uploadHeaders": [],
                    "files": [self._upload(f"run/{given['run']}", name) for name in given["files"]],
                }
            }
        if operation in ("CreateArtifact", "CreateArtifactManifest", "CreateArtifactFiles"):
            return getattr(self, f"_{operation}")(given)
        if operation == "CommitArtifact":
            found = self.artifacts[given["artifactID"]]
            found["committed"] = True
            return {"commitArtifact": {"artifact": {"id": found["id"], "digest": found["digest"]}}}
        if operation.lower().startswith("upsertview"):
            self.views.append(given)
            new = f"view{len({view['name'] for view in self.views})}"
            view = {"id": given.get("id") or new, "name": given.get("name"), "type": "x"}
            return {"upsertView": {"view": view, "inserted": True}}
        raise LookupError(operation)

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        """What the client streams: lines of history, the summary, the exit code."""
        found = self.runs[run]
        for name, part in (sent.get("files") or {}).items():
            lines = part["content"]
            if name == "wandb-history.jsonl":
                rows = enumerate(map(json.loads, lines), start=part["offset"])
                found.rows.update(rows)
            elif name == "wandb-summary.json":
                found.summary = json.loads(lines[-1])
        if sent.get("complete"):
            found.exit_code = sent["exitcode"]

    def store(self, path: str) -> None:
        """An uploaded file."""
        kind, owner, name = path.split("/", 2)
        if kind == "run":
            self.runs[owner].files.add(name)
        else:
            self.artifacts[owner]["files"].add(name)

    def _upsert(self, given: dict[str, Any]) -> ServedRun:
        known = {run.id: run for run in self.runs.values()}
        run = known.get(given.get("id") or "") or self.runs.get(given.get("name") or "")
        if run is None:
            run = self.runs[given["name"]] = ServedRun(given["name"], given["project"])
        if given.get("name"):
            run.starts += 1
        run.name = given.get("displayName") or run.name
        run.group = given.get("groupName") or run.group
        run.job_type = given.get("jobType") or run.job_type
        run.tags = given.get("tags") or run.tags
        config = json.loads(given.get("config") or "{}")
        run.config |= {k: v["value"] for k, v in config.items() if not k.startswith("_")}
        return run

    def _upload(self, place: str, name: str) -> dict[str, Any]:
        return {"name": name, "uploadUrl": f"{self.url}/storage/{place}/{name}"}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        key = f"artifact{len(self.artifacts)}"
        self.artifacts[key] = {
            "id": key,
            "run": given.get("runName"),
            "type": given["artifactTypeName"],
            "name": given["artifactCollectionName"],
            "digest": given["digest"],
            "metadata": json.loads(given.get("metadata") or "null"),
            "aliases": [alias["alias"] for alias in given.get("aliases") or []],
            "files": set(),
            "committed": False,
        }
        artifact = {
            "id": key,
            "digest": given["digest"],
            "state": "PENDING",
            "aliases": [],
            "artifactSequence": {"id": f"of-{key}", "latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = self._upload(f"artifact/{given['artifactID']}", given["name"])
        described = {"id": "file", "displayName": given["name"], "uploadHeaders": [], **file}
        manifest = {"id": "manifest", "file": described}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "id": "file",
                "displayName": spec["name"],
                "storagePath": f"artifact/{spec['artifactID']}/{spec['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
                **self._upload(f"artifact/{spec['artifactID']}", spec["name"]),
            }
            for spec in given["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}


_ENTITY = {"id": "entity", "name": "somebody"}
_PROJECT = {
    "id": "project",
    "internalId": "project",
    "entity": _ENTITY,
    "entityName": "somebody",
    "createdAt": "2026-01-01T00:00:00",
    "isBenchmark": False,
    "user": None,
}
_FIXED: dict[str, dict[str, Any]] = {
    "Viewer": {
        "viewer": {
            "id": "user",
            "entity": "somebody",
            "username": "somebody",
            "name": "somebody",
            "flags": "{}",
            "teams": {"edges": []},
        }
    },
    "GetDefaultEntity": {"viewer": {"id": "user", "entity": "somebody"}},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
    "ProjectInternalId": {"project": {"internalId": "project"}},
}


def _bucket(run: ServedRun) -> dict[str, Any]:
    """A run as the client is told of it: from it a resumed one knows where to go on."""
    rows = [run.rows[number] for number in sorted(run.rows)]
    return {
        "id": run.id,
        "name": run.id,
        "displayName": run.name,
        "description": None,
        "sweepName": None,
        "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
        "summaryMetrics": json.dumps(run.summary),
        "historyLineCount": len(rows),
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
        "eventsTail": "[]",
        "tags": run.tags,
        "wandbConfig": json.dumps({"t": 1}),
        "project": {**_PROJECT, "name": run.project},
    }


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if server.meet():
                self._reply(500, {"errors": [{"message": "out of order"}]})
                return
            try:
                with server.lock:
                    content = self._answer(body)
            except LookupError as error:  # what the client can do without, or a gap in this file
                content = {"data": None, "errors": [{"message": f"unknown: {error!r}"}]}
            self._reply(200, content)

        do_PUT = do_POST

        def do_GET(self) -> None:
            self._reply(404, {})

        def _answer(self, body: bytes) -> dict[str, Any]:
            if self.path.endswith("/graphql"):
                asked = json.loads(body)
                named = re.search(r"\b(?:query|mutation)\s+(\w+)", asked["query"])
                operation = asked.get("operationName") or (named[1] if named else "")
                return {"data": server.answer(operation, asked.get("variables") or {})}
            if self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], json.loads(body))
                return {"limits": {}}
            if self.path.startswith("/storage/"):
                server.store(self.path.removeprefix("/storage/").partition("?")[0])
            return {}

        def _reply(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler

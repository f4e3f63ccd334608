"""A stand-in of the hub on 127.0.0.1.

Files: HEAD and GET with ETag, commit and Range. Uploads: a repository made, and a commit to it.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Hub:
    """files: contents by the path that hub addresses name, e.g. `/datasets/a/b/resolve/main/f`.

    cut: of the next GET, bytes after which the connection ends; later ones are then refused
        until `cut` is None. gets: path and Range header of each GET. posts: path and Authorization
        header of each POST. token: that may write.
    """

    files: dict[str, bytes]
    cut: int | None = None
    down: bool = False
    token: str = "a token that may write"
    gets: list[tuple[str, str | None]] = field(default_factory=list)
    posts: list[tuple[str, str | None]] = field(default_factory=list)

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            content = self._content()
            if content is not None:
                self._begin(200, content, len(content))
                self.end_headers()

        def do_GET(self) -> None:
            content = self._content()
            if content is None:
                return
            asked = self.headers.get("Range")
            hub.gets.append((self.path, asked))
            if hub.down:
                self.send_error(503)
                return
            size = len(content)
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            self._begin(206 if asked else 200, content, size - start)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            if hub.cut is not None:
                hub.down = True
                self.wfile.write(content[start : hub.cut])
                self.close_connection = True
                return
            self.wfile.write(content[start:])

        def do_POST(self) -> None:
            told = self.headers.get("Authorization")
            hub.posts.append((self.path, told))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if told != f"Bearer {hub.token}":
                self._answer(403, {"error": "You don't have the rights to write here"})
                return
            *_, kind, name = ["", *self.path.rstrip("/").split("/")]
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                place = f"{asked.get('organization') or 'someone'}/{asked['name']}"
                self._answer(200, {"url": f"{hub.url}/{place}", "name": place})
            elif self.path == "/api/validate-yaml":
                self._answer(200, {"errors": [], "warnings": []})
            elif kind == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self._answer(200, {"files": files})
            elif kind == "commit":
                repository = self.path.removeprefix("/api/models/").removesuffix(f"/commit/{name}")
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        path = f"/{repository}/resolve/{name}/{line['value']['path']}"
                        hub.files[path] = base64.b64decode(line["value"]["content"])
                url = f"{hub.url}/{repository}/commit/{'0' * 40}"
                self._answer(200, {"success": True, "commitOid": "0" * 40, "commitUrl": url})
            else:
                self._answer(404, {"error": f"no {self.path} here"})

        def _answer(self, status: int, content: dict[str, object]) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            if "error" in content:
                self.send_header("X-Error-Message", str(content["error"]))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _content(self) -> bytes | None:
            content = hub.files.get(self.path)
            if content is None:
                repository = self.path.split("/resolve/")[0]
                known = any(path.startswith(repository + "/") for path in hub.files)
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
            return content

        def _begin(self, status: int, content: bytes, length: int) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(length))

    return Handler

"""A stand-in of the hub on the loopback: serves folders as models; drops connections or lies when told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class StandIn:
    """Models by id, and what goes wrong with them.

    `drops` holds for a file after how many bytes its next downloads break off; `tampered` the files whose
    content is changed on the way. `asked` counts requests by method and path, `ranges` the ranges asked for.
    """

    models: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    drops: dict[str, list[int]] = field(default_factory=dict)
    tampered: set[str] = field(default_factory=set)
    no_hash: set[str] = field(default_factory=set)
    status: int | None = None
    asked: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    downloads: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def files(self, model_id: str) -> dict[str, bytes]:
        root = self.models[model_id]
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked[f"{self.command} {path}"] += 1
        if self.hub.status is not None:
            self._send(self.hub.status, b"{}")
            return
        parts = path.strip("/").split("/")
        model_id = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if model_id not in self.hub.models:
            self._refuse(404, "RepoNotFound")
        elif parts[0] == "api":
            self._describe(model_id, parts[4:])
        elif model_id in self.hub.gated:
            self._refuse(403, "GatedRepo")
        else:
            self._file(model_id, "/".join(parts[4:]), with_body=with_body)

    def _describe(self, model_id: str, rest: list[str]) -> None:
        if rest[1:2] not in (["main"], [COMMIT], []):
            self._refuse(404, "RevisionNotFound")
        elif rest[:1] == ["tree"]:
            self._send(200, json.dumps([_entry(n, c) for n, c in self.hub.files(model_id).items()]).encode())
        else:
            siblings = [{"rfilename": name} for name in self.hub.files(model_id)]
            about = {"id": model_id, "modelId": model_id, "sha": COMMIT, "siblings": siblings, "tags": []}
            self._send(200, json.dumps(about).encode())

    def _file(self, model_id: str, name: str, *, with_body: bool) -> None:
        content = self.hub.files(model_id).get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_blob_id(content)}"', "Accept-Ranges": "bytes"}
        if name.endswith(".safetensors"):
            headers["X-Linked-Size"] = str(len(content))
            if name not in self.hub.no_hash:
                headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        if name in self.hub.tampered:
            content = bytes([content[0] ^ 1]) + content[1:]
        status, start = 200, 0
        if (asked := self.headers.get("Range")) is not None:
            self.hub.ranges.append((name, asked))
            status, start = 206, int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if with_body:
            self.hub.downloads[name] += 1
        drops = self.hub.drops.get(name, [])
        cut = drops.pop(0) if with_body and drops else None
        self._send(status, body, headers, with_body=with_body, cut=cut)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool = True,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_blob_id(content)}
    if name.endswith(".safetensors"):
        oid = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
    return entry

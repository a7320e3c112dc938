"""A hub on this machine: as much of the Hugging Face hub's protocol as its own client needs to make, write and read a model."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_tiny"


class TinyHub(ThreadingHTTPServer):
    """Models by name, each ``{path: bytes}`` at one commit; ``requests`` are those that came in, ``"GET /path"``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.models[name].items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: TinyHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlparse(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid credentials in Authorization header"})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            there = name in self.server.models
            self.server.models.setdefault(name, {})
            self.server.private.setdefault(name, asked.get("private") or asked.get("visibility") == "private")
            self._send(409 if there else 200, {"url": f"{self.server.address}/{name}"})
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[4:], body)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._send(404, {"error": "not found"})

    def _model(self, name: str, rest: list[str], body: bytes) -> None:
        files = self.server.models.get(name)
        if files is None:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif rest[0] == "preupload":
            asked = json.loads(body)["files"]
            self._send(200, {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]})
        elif rest[0] == "commit":
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "header":
                    self.server.messages.append(line["value"]["summary"])
                else:
                    assert line["key"] == "file" and line["value"]["encoding"] == "base64", line["key"]
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = self.server.commit(name)
            url = f"{self.server.address}/{name}/commit/{commit}"
            self._send(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        elif rest[0] == "tree":
            rows = [{"type": "file", "oid": _etag(content), "size": len(content), "path": path} for path, content in files.items()]
            self._send(200, rows)
        else:  # the model itself, or one of its revisions
            if rest[:1] == ["revision"] and rest[1] not in ("main", self.server.commit(name)):
                self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [{"rfilename": path} for path in files]
            self._send(200, {"id": name, "modelId": name, "sha": self.server.commit(name), "siblings": siblings, "tags": []})

    def _file(self, name: str, path: str) -> None:
        content = self.server.models.get(name, {}).get(path)
        if content is None:
            self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        self._send(200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": self.server.commit(name)})

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _etag(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@contextmanager
def tiny_hub() -> Iterator[TinyHub]:
    """A hub that serves while the context lasts."""
    server = TinyHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

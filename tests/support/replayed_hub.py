"""A hub that answers as the public one does, as far as reads go: files of git-lfs lie on another
host, at signed addresses that take no token; repos may be private or gated; and it may be told to
fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_SIGNATURE = "Expires=1700000000&Signature=abc~def&Key-Pair-Id=K2"


@dataclass
class Repo:
    """A repo: its files, whose tokens may read it (None: everybody), and whether it is gated."""

    files: Mapping[str, bytes]
    readers: set[str] | None = None
    gated: bool = False

    @property
    def sha(self) -> str:
        """The id of its one commit."""
        told = [(path, hashlib.sha1(data).hexdigest()) for path, data in sorted(self.files.items())]
        return hashlib.sha1(json.dumps(told).encode()).hexdigest()


@dataclass
class ReplayedHub:
    """What it has, what it was asked (host, method, path, token), and how it fails.

    `ranges`: which parts of files. `cut_after`: a file's body ends after so many bytes, so many
    `cuts` times. `limited`: so many requests are refused with 429 and Retry-After. `spoiled`: files
    come with another last byte. `leads_to`: where files are said to be, in place of its other host.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    cut_after: int = 0
    cuts: int = 0
    limited: int = 0
    retry_after: int = 1
    spoiled: bool = False
    leads_to: str | None = None
    page: int = 1000
    url: str = ""
    files_url: str = ""

    def asked_for(self, part: str) -> list[tuple[str, str, str, str | None]]:
        """The requests whose path has `part`."""
        return [each for each in self.asked if part in each[2]]


@contextmanager
def replayed_hub() -> Iterator[ReplayedHub]:
    """A running hub, on two ports: its own, and that of its files."""
    hub = ReplayedHub()
    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), type(host, (_Handler,), {"hub": hub, "host": host}))
        for host in ("hub", "cdn")
    ]
    hub.url, hub.files_url = (f"http://127.0.0.1:{each.server_port}" for each in servers)
    threads = [threading.Thread(target=each.serve_forever, args=(0.02,)) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def is_lfs(path: str) -> bool:
    """What the public hub's .gitattributes say of the files here."""
    return path.endswith((".safetensors", ".bin"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ReplayedHub
    host: str
    token: str | None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        shown = self.headers.get("authorization", "")
        self.token = shown.removeprefix("Bearer ") or None
        self.hub.asked.append((self.host, self.command, self.path, self.token))
        url = urlsplit(self.path)
        if self.hub.limited:
            self.hub.limited -= 1
            wait = {"Retry-After": str(self.hub.retry_after)}
            self.refuse(429, None, "We had to rate limit you", wait)
        elif self.host == "cdn":
            self.send_file(unquote(url.path), signed=url.query == _SIGNATURE)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(.*))?", url.path):
            self.answer_api(found[1], unquote(found[2] or ""), parse_qs(url.query))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.*)", url.path):
            self.resolve(found[1], unquote(found[3]))
        else:
            self.refuse(404, None, "Sorry, we can't find the page you are looking for.")

    def answer_api(self, name: str, rest: str, query: dict[str, list[str]]) -> None:
        repo = self.find(name, gate=rest == "auth-check")
        if repo is None:
            return
        if rest in ("", "revision/main", f"revision/{repo.sha}"):
            siblings = [{"rfilename": path} for path in sorted(repo.files)]
            private = repo.readers is not None and not repo.gated
            gated = "manual" if repo.gated else False
            facts = {"id": name, "sha": repo.sha, "private": private, "gated": gated}
            self.send_json({**facts, "siblings": siblings, "tags": ["en"], "downloads": 7})
        elif rest == "auth-check":
            self.send_json({})
        elif rest == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.sha}
            tag = {"name": "v1", "ref": "refs/tags/v1", "targetCommit": repo.sha}
            self.send_json({"branches": [main], "tags": [tag], "converts": []})
        elif rest == f"tree/{repo.sha}":
            self.send_tree(name, repo, int(query.get("cursor", ["0"])[0]))
        else:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {rest}")

    def send_tree(self, name: str, repo: Repo, start: int) -> None:
        lines = [_entry(path, data) for path, data in sorted(repo.files.items())]
        stop = start + self.hub.page
        path = f"/api/models/{name}/tree/{repo.sha}?recursive=true&cursor={stop}"
        link = {"Link": f'<https://hub.example{path}>; rel="next"'} if stop < len(lines) else {}
        self.send_json(lines[start:stop], link)

    def resolve(self, name: str, path: str) -> None:
        repo = self.find(name, gate=True)
        if repo is None:
            return
        if path not in repo.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        elif is_lfs(path):
            base = self.hub.leads_to or self.hub.files_url
            self.send_response(302)
            self.send_header("Location", f"{base}/{name}/{path}?{_SIGNATURE}")
            self.send_header("X-Repo-Commit", repo.sha)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif "resolve-cache" not in self.path and path == "config.json":
            # The public hub sends small files by an address of its own host.
            self.send_response(307)
            self.send_header("Location", f"/{name}/resolve/{repo.sha}/{path}?resolve-cache=1")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_bytes(repo.files[path])

    def find(self, name: str, *, gate: bool) -> Repo | None:
        repo = self.hub.repos.get(name)
        known = repo is not None and (repo.readers is None or self.token in repo.readers)
        if repo is not None and (known or (repo.gated and not gate)):
            return repo
        if repo is not None and repo.gated:
            status = 403 if self.token else 401
            self.refuse(status, "GatedRepo", f"Access to model {name} is restricted")
        else:
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        return None

    def send_file(self, path: str, *, signed: bool) -> None:
        _, namespace, name, file = path.split("/", 3)
        data = self.hub.repos[f"{namespace}/{name}"].files.get(file)
        if data is None or not signed or self.token is not None:
            self.refuse(403, None, "AccessDenied")
        else:
            self.send_bytes(data)

    def send_bytes(self, data: bytes) -> None:
        self.hub.ranges.append(self.headers.get("range", ""))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        first = int(asked[1]) if asked else 0
        body = data[first:]
        if self.hub.spoiled and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.hub.cuts and len(body) > self.hub.cut_after:
            self.hub.cuts -= 1
            self.wfile.write(body[: self.hub.cut_after])
            self.close_connection = True
            return
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: Any, headers: Mapping[str, str] = {}) -> None:
        body = json.dumps(value).encode()
        etag = f'W/"{hashlib.sha1(body).hexdigest()}"'
        if self.headers.get("if-none-match") == etag:
            self.send_response(304)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, text in {"ETag": etag, **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(
        self, status: int, code: str | None, message: str, headers: Mapping[str, str] = {}
    ) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Message", message)
        if code:
            self.send_header("X-Error-Code", code)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if not is_lfs(path):
        return entry
    sha256 = hashlib.sha256(data).hexdigest()
    return {
        **entry,
        "lfs": {"oid": sha256, "size": len(data), "pointerSize": 134},
        "xetHash": hashlib.sha256(sha256.encode()).hexdigest(),
    }

"""Tenants of one server, in this process: each with a token for its namespace, and all ways in."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from xet_samples import pack_file, pack_shard, pack_xorb

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.client.transport import Transport
from weightvault.api.requests.tokens import create_token
from weightvault.dedup.transfer.push import PushResult, push
from weightvault.dedup.xet.hashes import format_hash, hash_chunk

URL = "http://hub"


class _InProcess(Transport):
    """Sends requests to an application instead of a server."""

    def __init__(self, web: TestClient) -> None:
        super().__init__(URL, retry_delays=())
        self._client.close()
        self._client = web


@dataclass
class Tenant:
    """Somebody with a token; `heard` are all answers they were given."""

    app: FastAPI
    namespace: str | None
    secret: str | None
    heard: list[httpx.Response] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.web = TestClient(self.app, base_url=URL, follow_redirects=False)
        self.web.headers["Accept-Encoding"] = "identity"
        if self.secret is not None:
            self.web.headers["Authorization"] = f"Bearer {self.secret}"
        self.web.event_hooks["response"].append(self._hear)

    def _hear(self, answer: httpx.Response) -> None:
        answer.read()
        # For whoever reads it piece by piece.
        answer.stream = httpx.ByteStream(answer.content)
        answer.is_stream_consumed = answer.is_closed = False
        self.heard.append(answer)

    # Native

    def vault(self) -> HttpVault:
        """The vault as `weightvault` sees it with this token."""
        return HttpVault(URL, transport=_InProcess(self.web))

    def push(self, folder: Path, repo: str, *, base: str | None = None) -> PushResult:
        """Pushes a folder natively."""
        return push(self.vault(), folder, repo, base=base)

    # As a client of a hub

    def create(self, repo: str, **options: Any) -> httpx.Response:
        """Makes a repo."""
        *kind, namespace, name = repo.split("/")
        body = {"name": name, "organization": namespace, "private": True, **options}
        body |= {"type": kind[0].removesuffix("s")} if kind else {}
        return self.web.post("/api/repos/create", json=body)

    def commit(
        self, repo: str, files: Mapping[str, bytes] = {}, uploaded: Mapping[str, bytes] = {}
    ) -> httpx.Response:
        """Commits files that travel in the request, and others that were uploaded before."""
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "a commit"}}]
        for path, data in files.items():
            content = {"content": base64.b64encode(data).decode(), "encoding": "base64"}
            lines.append({"key": "file", "value": {"path": path, **content}})
        for path, data in uploaded.items():
            value = {"path": path, "algo": "sha256", "oid": sha256(data), "size": len(data)}
            lines.append({"key": "lfsFile", "value": value})
        body = "\n".join(map(json.dumps, lines))
        headers = {"Content-Type": "application/x-ndjson"}
        return self.web.post(f"{hub_path(repo)}/commit/main", content=body, headers=headers)

    def batch(self, repo: str, data: bytes, operation: str = "upload") -> dict[str, Any]:
        """What git-lfs is told of one file."""
        asked = {"operation": operation, "objects": [{"oid": sha256(data), "size": len(data)}]}
        answer = self.web.post(f"/{repo}.git/info/lfs/objects/batch", json=asked)
        return answer.json()["objects"][0] if answer.status_code == 200 else {}

    def upload(self, repo: str, data: bytes) -> httpx.Response | None:
        """Sends a file by git-lfs; None where it need not or must not be sent."""
        action = self.batch(repo, data).get("actions", {}).get("upload")
        return self.web.put(action["href"], content=data) if action else None

    def ask_xet(self, repo: str, data: bytes) -> None:
        """Asks what a Xet client asks of a file of one chunk before it sends it."""
        address, headers = self._open_xet(repo)
        chunk, xorb = format_hash(hash_chunk(data)), format_hash(pack_xorb([data])[0])
        self.web.get(f"{address}/v1/chunks/default/{chunk}", headers=headers)
        self.web.post(f"{address}/v1/xorb-grants/default/{xorb}", headers=headers)

    def upload_xet(self, repo: str, data: bytes) -> httpx.Response:
        """Sends a file by Xet, as one chunk."""
        address, headers = self._open_xet(repo)
        digest, xorb = pack_xorb([data])
        where = f"{address}/v1/xorbs/default/{format_hash(digest)}"
        sent = self.web.post(where, content=xorb, headers=headers)
        if sent.status_code != 200:
            return sent
        shard = pack_shard([pack_file([(digest, [data], 0)])])
        return self.web.post(f"{address}/v1/shards", content=shard, headers=headers)

    def _open_xet(self, repo: str) -> tuple[str, dict[str, str]]:
        told = self.web.get(f"{hub_path(repo)}/xet-write-token/main").json()
        return told["casUrl"], {"Authorization": f"Bearer {told['accessToken']}"}


def hub_path(repo: str) -> str:
    """Where the hub's API has a repo."""
    return f"/api/{repo}" if repo.count("/") == 2 else f"/api/models/{repo}"


def make_tenant(
    app: FastAPI, namespace: str | None, role: str = "write", name: str | None = None
) -> Tenant:
    """A tenant with a token of its own."""
    name = name or namespace or "root"
    secret = create_token(app.state.vault, name, role, namespace).secret
    return Tenant(app, namespace, secret)


def sha256(data: bytes) -> str:
    """A file's name in git-lfs."""
    return hashlib.sha256(data).hexdigest()

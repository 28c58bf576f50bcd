"""Tenants of one server, in this process: each with a token for its namespace, and all ways in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fastapi import FastAPI
from hub_requests import HubRequests, hub_path
from in_process import URL, AppClient
from xet_samples import pack_file, pack_shard, pack_xorb

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.client.transport import Transport
from weightvault.api.requests.tokens import create_token
from weightvault.dedup.model.history import PushResult
from weightvault.dedup.transfer.push import push
from weightvault.dedup.xet.hashes import format_hash, hash_chunk


class _InProcess(Transport):
    """Sends requests to an application instead of a server."""

    def __init__(self, web: httpx.Client) -> None:
        super().__init__(URL, retry_delays=())
        self._client.close()
        self._client = web


@dataclass
class Tenant(HubRequests):
    """Somebody with a token; `heard` are all answers they were given."""

    app: FastAPI
    namespace: str | None
    secret: str | None
    heard: list[httpx.Response] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.web = AppClient(self.app)
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

    # By Xet

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


def make_tenant(
    app: FastAPI, namespace: str | None, role: str = "write", name: str | None = None
) -> Tenant:
    """A tenant with a token of its own."""
    name = name or namespace or "root"
    secret = create_token(app.state.vault, name, role, namespace).secret
    return Tenant(app, namespace, secret)

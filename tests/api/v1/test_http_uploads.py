"""Bodies on their way in: bounded, and gone from the disk whatever happens."""

import asyncio
import os
import socket
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from weightvault.api.server.app import create_app
from weightvault.api.v1 import json_bodies, routes
from weightvault.dedup.errors import Conflict
from weightvault.dedup.local_vault import LocalVault

PACK = f"/v1/packs/{'0' * 64}"


def uploads(vault: LocalVault) -> list[Path]:
    """The temporary files of uploads."""
    return list(vault.scratch.glob("upload-*"))


def test_nothing_is_left_after_a_refusal(web: httpx.Client, local: LocalVault) -> None:
    assert web.put(PACK, content=b"junk" * 1_000_000).status_code == 400
    assert uploads(local) == []


def test_the_vault_sees_the_whole_body_in_a_file(
    web: httpx.Client, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = os.urandom(3_000_001)
    seen: list[bytes] = []

    def take(path: Path, name: str, **_: bool) -> int:
        seen.append(path.read_bytes())
        raise Conflict(name)

    monkeypatch.setattr(local, "add_pack", take)
    assert web.put(PACK, content=body).status_code == 409
    assert seen == [body]
    assert uploads(local) == []


def test_a_body_too_large_is_refused(
    web: httpx.Client, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MAX_PACK_BYTES", 1000)
    monkeypatch.setattr(routes, "MAX_MANIFEST_BODY_BYTES", 1000)
    monkeypatch.setattr(json_bodies, "MAX_JSON_BODY_BYTES", 1000)

    def unannounced():
        yield b"x" * 600
        yield b"x" * 600

    for content in (b"x" * 1001, unannounced()):
        response = web.put(PACK, content=content)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_large"
    for path in ("/v1/repos/a/b/commits", "/v1/missing", "/v1/repos/a/b/frames"):
        for content in (b"x" * 1001, unannounced()):
            assert web.post(path, content=content).status_code == 413
    assert web.put(PACK, content=b"x" * 1000).status_code == 400
    assert uploads(local) == []


def test_a_client_that_goes_away_leaves_nothing(live: str, local: LocalVault, wait_until) -> None:
    host, port = live.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT {PACK} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 3_000_000)
        wait_until(lambda: len(uploads(local)) == 1)
    wait_until(lambda: uploads(local) == [])


def test_a_scratch_folder_that_cannot_be_made_is_told(
    web: httpx.Client, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "scratch", Path("/proc/self/no-such-folder"))
    response = web.put(PACK, content=b"x")
    assert response.status_code >= 400
    assert "temporary file" in response.json()["error"]["message"]


async def start(app: FastAPI) -> None:
    """Does what an application does when its server starts and stops."""
    async with app.router.lifespan_context(app):
        pass


def test_start_removes_only_uploads_that_are_long_dead(local: LocalVault) -> None:
    dead, alive, other = (local.scratch / n for n in ("upload-dead", "upload-alive", "other"))
    for path in (dead, alive, other):
        path.write_bytes(b"x")
    two_days_ago = time.time() - 2 * 86400
    for path in (dead, other):
        os.utime(path, (two_days_ago, two_days_ago))
    asyncio.run(start(create_app(local)))
    assert [p.exists() for p in (dead, alive, other)] == [False, True, True]

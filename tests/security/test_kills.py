"""A server killed while it takes in uploads, or encodes them, loses nothing that it acknowledged,
and whoever sends the same again is done.

The process kills itself at one of its writes (tests/slow_server.py); what comes after runs here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import slow_server
from fastapi.testclient import TestClient
from forked import ForkedProcess
from vaults import open_local
from xet_samples import pack_file, pack_shard, pack_xorb

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.dedup.xet.hashes import format_hash

REPO = "org/hub"
PARTS = 4
Client = httpx.Client


def make_content(seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(PARTS * slow_server.PART_BYTES - 1)


def commit(web: Client, lines: Sequence[tuple[str, Mapping[str, object]]]) -> None:
    body = [{"key": "header", "value": {"summary": "x"}}]
    body += [{"key": key, "value": value} for key, value in lines]
    text = "\n".join(map(json.dumps, body))
    answer = web.post(f"/api/models/{REPO}/commit/main", content=text)
    assert answer.status_code == 200, answer.text


def commit_upload(web: Client, data: bytes) -> None:
    oid = hashlib.sha256(data).hexdigest()
    upload = {"path": "weights.bin", "algo": "sha256", "oid": oid, "size": len(data)}
    commit(web, [("lfsFile", upload)])


def send_xet(web: Client, data: bytes) -> None:
    """Uploads a file as Xet clients do."""
    told = web.get(f"/api/models/{REPO}/xet-write-token/main").json()
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    chunks = [data[i : i + 50_000] for i in range(0, len(data), 50_000)]
    xorb, body = pack_xorb(chunks)
    url = f"{told['casUrl']}/v1/xorbs/default/{format_hash(xorb)}"
    assert web.post(url, content=body, headers=headers).status_code == 200
    shard = pack_shard([pack_file([(xorb, chunks, 0)])], [(xorb, chunks)])
    answer = web.post(f"{told['casUrl']}/v1/shards", content=shard, headers=headers)
    assert answer.status_code == 200, answer.text
    commit_upload(web, data)


def send_parts(web: Client, data: bytes) -> None:
    """Uploads a file as clients of git-lfs do, in parts."""
    wanted = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    asked = {"operation": "upload", "transfers": ["multipart", "basic"], "objects": [wanted]}
    answer = web.post(f"/{REPO}.git/info/lfs/objects/batch", json=asked)
    actions = answer.json()["objects"][0].get("actions")
    if actions is not None:
        header = actions["upload"]["header"]
        size = int(header.pop("chunk_size"))
        assert len(header) == PARTS
        for i, url in enumerate(header[number] for number in sorted(header)):
            part = data[i * size : (i + 1) * size]
            assert web.put(url, content=part).status_code == 200
        assert web.post(actions["upload"]["href"], json={}).status_code == 200
    commit_upload(web, data)


def send_texts(web: Client, data: bytes) -> None:
    """Commits texts, which wait to be encoded, and waits for what becomes of them."""
    files = [{"path": f"{i}.txt", "content": data[i : i + 3000].hex()} for i in range(9)]
    commit(web, [("file", file) for file in files])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        web.get("/health")
        time.sleep(0.2)


KINDS: dict[str, tuple[Callable[[Client, bytes], None], str, range]] = {
    # What is done, whose writes count, and at which of them the process dies.
    "xet": (send_xet, "", range(0, 9, 2)),
    "lfs-parts": (send_parts, "", range(0, 12, 3)),
    "encode": (send_texts, "encoder", range(3)),
}
CASES = [(kind, number) for kind, (_, _, numbers) in KINDS.items() for number in numbers]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled")
    vault = open_local(root)
    incoming = IncomingFiles(vault)
    History(vault, incoming).create_repo(REPO, Message("first"))
    vault.close()
    return root


@contextmanager
def serving(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A server process; its URL is its first line."""
    command = ["slow_server:main", str(root)]
    process = ForkedProcess(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_killed_server_loses_nothing(filled: Path, kind: str, number: int):
    send, thread, _ = KINDS[kind]
    data = make_content(hash_seed(kind, number))
    (filled / "kill").unlink(missing_ok=True)
    with serving(filled) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        (filled / "kill").write_text(f"{number} {thread}")
        with Client(base_url=url, timeout=60, trust_env=False) as web, suppress(httpx.HTTPError):
            send(web, data)
        assert process.wait(60) == -9, "nothing killed it"
    vault = open_local(filled)
    check_clean(vault)
    with TestClient(create_app(vault, small_parts())) as web:
        if kind == "encode":
            # What was acknowledged is there, encoded or not.
            check_texts(web, data)
        else:
            send(web, data)
            answer = web.get(f"/{REPO}/resolve/main/weights.bin")
            assert answer.content == data
    while encode_some(vault):
        pass
    check_clean(vault)
    vault.close()


def check_texts(web: Client, data: bytes) -> None:
    for i in range(9):
        text = data[i : i + 3000].hex()
        assert web.get(f"/{REPO}/resolve/main/{i}.txt").text == text


def check_clean(vault: LocalVault) -> None:
    found = vault.check()
    assert not found.problems, found.problems
    assert Scrubber(vault).run().problems == []


def small_parts() -> ServerSettings:
    size = slow_server.PART_BYTES
    return ServerSettings(multipart_bytes=size, part_bytes=size)


def hash_seed(kind: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{kind} {number}".encode()).digest()[:4])

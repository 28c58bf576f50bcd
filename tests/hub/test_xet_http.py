"""The endpoints of the Xet protocol: who may use them, and what they say to what does not hold."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from vaults import open_local
from xet_samples import golden, golden_files, pack_file, pack_shard, pack_xorb

from weightvault.api.hub.xet.grants import XetGrant, issue_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.xet.hashes import format_hash, hash_chunk
from weightvault.dedup.xet.shard import Shard

GOLDEN_XORB = "28cc71451b7d49ce7df9582f5c6ec11b03f63fd0ed03ef81762639a129676cfd"
CHUNKS = [bytes([i]) * (5000 + i) for i in range(4)]
REPO = "org/model"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "served")
    for repo in (REPO, "org/other", "else/model", "datasets/org/data"):
        opened.commit(repo, "main", Manifest((), 1 << 25))
    yield opened
    opened.close()


@pytest.fixture
def web(vault: LocalVault) -> Iterator[TestClient]:
    with TestClient(create_app(vault)) as client:
        yield client


class Cas:
    """What a client does with the address and the token that it was given."""

    def __init__(self, web: TestClient, repo: str = REPO, *, kind: str = "write") -> None:
        self.web = web
        where = f"/api/{repo}" if repo.startswith("datasets/") else f"/api/models/{repo}"
        answer = web.get(f"{where}/xet-{kind}-token/main")
        assert answer.status_code == 200, answer.text
        self.told = answer.json()
        self.headers = {"Authorization": f"Bearer {self.told['accessToken']}"}
        self.answer = answer

    def post(self, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        url = f"{self.told['casUrl']}{path}"
        return self.web.post(url, content=content, headers=self.headers | headers)

    def get(self, path: str) -> httpx.Response:
        return self.web.get(f"{self.told['casUrl']}{path}", headers=self.headers)

    def send_xorb(self, chunks: list[bytes] = CHUNKS) -> bytes:
        digest, data = pack_xorb(chunks)
        answer = self.post(f"/v1/xorbs/default/{format_hash(digest)}", data)
        assert answer.status_code == 200, answer.text
        return digest


def outcome(answer: httpx.Response) -> dict[str, object]:
    """The last line of an answer to v2/shards."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return json.loads(answer.text.splitlines()[-1])


def is_there(web: TestClient, repo: str, data: bytes) -> bool:
    sha256 = hashlib.sha256(data).digest()
    return web.app.state.hub.incoming.get(sha256, repo) is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize("rev", ["main", "None", "dev%2Fx", "refs%2Fpr%2F1"])
@pytest.mark.parametrize("kind", ["read", "write"])
def test_token_comes_in_body_and_headers(web: TestClient, rev: str, kind: str):
    answer = web.get(f"/api/models/{REPO}/xet-{kind}-token/{rev}")
    told = answer.json()
    assert answer.headers["X-Xet-Cas-Url"] == told["casUrl"]
    assert answer.headers["X-Xet-Access-Token"] == told["accessToken"]
    assert answer.headers["X-Xet-Token-Expiration"] == str(told["exp"])
    assert told["casUrl"].startswith("http://testserver/-/xet/")
    assert time.time() < told["exp"] <= time.time() + 3600


def test_addresses_are_those_of_owners(web: TestClient):
    address = {repo: Cas(web, repo).told["casUrl"] for repo in (REPO, "org/other", "else/model")}
    assert address[REPO] == address["org/other"] == Cas(web, "datasets/org/data").told["casUrl"]
    assert address[REPO] != address["else/model"]


def test_no_token_for_a_repo_that_is_not_there(web: TestClient):
    answer = web.get("/api/models/org/nothing/xet-write-token/main")
    assert answer.status_code in (401, 404)
    assert answer.headers["X-Error-Code"] == "RepoNotFound"


def test_what_the_real_client_sends_becomes_its_files(web: TestClient):
    cas = Cas(web)
    noted = {"length": 17175, "checksum": {"algo": "crc64nvme", "value": "1"}}
    grant = f"/v1/xorb-grants/default/{GOLDEN_XORB}"
    assert cas.post(grant, json.dumps(noted).encode()).status_code == 404
    answer = cas.post(f"/v1/xorbs/default/{GOLDEN_XORB}", golden("xorb"))
    assert answer.json() == {"was_inserted": True}
    answer = cas.post(f"/v1/xorbs/default-merkledb/{GOLDEN_XORB}", golden("xorb"))
    assert answer.json() == {"was_inserted": False}
    assert cas.post(grant, json.dumps(noted).encode()).status_code == 200
    assert outcome(cas.post("/v2/shards", golden("shard"))) == {"type": "result", "result": 1}
    assert all(is_there(web, REPO, data) for data in golden_files().values())
    assert cas.post("/v1/shards", golden("shard")).json() == {"result": 1}
    for path in ("", "xorb-grants/default/", "chunks/default/"):
        assert web.post("/v1/telemetry", content=b"{}" * 1000).status_code == 204, path


def test_lies_are_final_errors(web: TestClient):
    cas = Cas(web)
    digest, data = pack_xorb(CHUNKS)
    name = format_hash(digest)
    other = format_hash(hash_chunk(b"other"))
    assert cas.post(f"/v1/xorbs/default/{other}", data).status_code == 400
    assert cas.post(f"/v1/xorbs/default/{name}", data[:-1]).status_code == 400
    assert cas.post(f"/v1/xorbs/default/{name}", b"").status_code == 400
    assert cas.post("/v1/xorbs/default/nothing", data).status_code == 400
    assert cas.post(f"/v1/xorbs/default/{name}", bytes(67 << 20)).status_code == 413
    cas.send_xorb()
    lie = pack_shard([pack_file([(digest, CHUNKS, 0)], sha256=bytes(32))])
    for shard in (b"", b"no shard", golden("shard")[:500], lie):
        assert cas.post("/v1/shards", shard).status_code == 400
        told = outcome(cas.post("/v2/shards", shard))
        assert (told["type"], told["retryable"]) == ("error", False)
    assert not is_there(web, REPO, b"".join(CHUNKS))


def test_shard_of_a_lost_xorb_says_to_upload_again_and_the_address_changes(web: TestClient):
    for version in (1, 2):
        cas = Cas(web)
        shard = pack_shard([pack_file([(bytes(32), CHUNKS, 0)])])
        answer = cas.post(f"/v{version}/shards", shard)
        assert "upload again" in answer.text
        assert answer.status_code == (409 if version == 1 else 200)
        # What is under way to the old address goes on; it cannot be finished there.
        digest, data = pack_xorb(CHUNKS)
        answer = cas.post(f"/v1/xorbs/default/{format_hash(digest)}", data)
        assert answer.status_code == 200
        assert "upload again" in cas.post(f"/v{version}/shards", shard).text
        assert Cas(web).told["casUrl"] != cas.told["casUrl"]


def test_tokens_are_for_one_address_one_owner_and_writing(web: TestClient):
    mine, theirs, reader = Cas(web), Cas(web, "else/model"), Cas(web, kind="read")
    digest, data = pack_xorb(CHUNKS)
    path = f"/v1/xorbs/default/{format_hash(digest)}"
    assert reader.post(path, data).status_code == 403
    stolen = {"Authorization": theirs.headers["Authorization"]}
    assert mine.post(path, data, **stolen).status_code == 403
    for header in ("", "Bearer", "Bearer nonsense", f"Basic {mine.told['accessToken']}"):
        assert mine.post(path, data, Authorization=header).status_code == 401
    signer = web.app.state.hub.signer  # type: ignore[attr-defined]
    generation = mine.told["casUrl"].rpartition("/")[2]
    expired = issue_token(signer, XetGrant(REPO, generation, True), int(time.time()) - 1)
    answer = mine.post(path, data, Authorization=f"Bearer {expired}")
    assert answer.status_code == 401
    assert "expired" in answer.text
    assert mine.post(path, data).status_code == 200


def test_chunks_are_answered_to_their_owner_alone(web: TestClient):
    cas, other = Cas(web), Cas(web, "else/model")
    xorb = cas.send_xorb()
    path = f"/v1/chunks/default/{format_hash(hash_chunk(CHUNKS[0]))}"
    assert cas.get(path).status_code == 404
    outcome(cas.post("/v2/shards", pack_shard([pack_file([(xorb, CHUNKS, 0)])])))
    assert other.get(path).status_code == 404
    answer = cas.get(path)
    (found,) = Shard(answer.content).xorbs()
    assert found.hash == xorb
    assert list(found.chunks()) == [(hash_chunk(c), len(c)) for c in CHUNKS]
    assert list(Shard(answer.content).files()) == []


def test_commit_takes_the_file_by_its_sha256(web: TestClient):
    cas = Cas(web)
    xorb = cas.send_xorb()
    data = b"".join(CHUNKS)
    outcome(cas.post("/v2/shards", pack_shard([pack_file([(xorb, CHUNKS, 0)])])))
    oid = hashlib.sha256(data).hexdigest()
    file = {"path": "model.bin", "algo": "sha256", "oid": oid, "size": len(data)}
    lines = [{"key": "header", "value": {"summary": "add"}}, {"key": "lfsFile", "value": file}]
    body = "\n".join(map(json.dumps, lines))
    answer = web.post(f"/api/models/{REPO}/commit/main", content=body)
    assert answer.status_code == 200, answer.text
    assert web.get(f"/{REPO}/resolve/main/model.bin").content == data

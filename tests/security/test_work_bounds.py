"""What is told by reference costs nothing to send, so it may not cost the server much to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from blake3 import blake3
from client_packs import code_of, make_pack
from fastapi.testclient import TestClient
from live_server import serving
from models import make_weights, write_model
from vaults import open_anew, open_local
from xet_samples import LZ4, pack_file, pack_shard, pack_xorb

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import TooExpensive
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files import expansion
from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.model.files.manifest import Manifest, pack_manifest
from weightvault.dedup.model.files.segments import CHUNK_BYTES, Opaque, Share
from weightvault.dedup.reading.timed_codecs import DECODING
from weightvault.dedup.transfer import push, shard_budget, xet_uploads
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.dedup.xet.hashes import format_hash

REPO = "org/model"
COMMITS = f"/v1/repos/{REPO}/commits"
MIB = 1 << 20


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "served")
    yield opened
    opened.close()


@pytest.fixture
def web(vault: LocalVault) -> Iterator[TestClient]:
    with TestClient(create_app(vault)) as client:
        yield client


def repeat(raw: bytes, times: int, digest: bytes = bytes(32)) -> bytes:
    """A manifest of a file that is a chunk, so many times."""
    segment = Opaque(len(raw) * times, (blake3(raw).digest(),) * times)
    entry = FileEntry("zeros.bin", segment.size, digest, (segment,))
    return pack_manifest(Manifest((entry,), CHUNK_BYTES))


def send_pack(web: TestClient, raws: Sequence[bytes]) -> httpx.Response:
    name, data = make_pack(raws)
    return web.put(f"/v1/packs/{name}", content=data)


# Native pushes


def test_a_short_manifest_of_a_long_file_is_refused(web: TestClient):
    zeros = bytes(CHUNK_BYTES)
    assert send_pack(web, [zeros]).status_code == 200
    before = DECODING.raw_bytes
    manifest = repeat(zeros, 64)
    assert len(manifest) < 400
    answer = web.post(COMMITS, content=manifest)
    assert code_of(answer) == (413, "too_expensive")
    assert answer.json()["error"]["hint"]
    assert DECODING.raw_bytes == before


def test_many_files_of_few_chunks_are_refused(web: TestClient):
    """Each is short enough by itself, and none is equal to another."""
    raws = [bytes([i]) * CHUNK_BYTES for i in range(3)]
    assert send_pack(web, raws).status_code == 200
    digests = [blake3(raw).digest() for raw in raws]
    files = [
        FileEntry(
            f"{i:03}",
            4 * CHUNK_BYTES,
            bytes(32),
            (Opaque(4 * CHUNK_BYTES, tuple(digests[i // 3**n % 3] for n in range(4))),),
        )
        for i in range(27)
    ]
    answer = web.post(COMMITS, content=pack_manifest(Manifest(tuple(files), CHUNK_BYTES)))
    assert code_of(answer) == (413, "too_expensive")


def test_shares_of_a_bundle_cost_what_they_take(web: TestClient):
    """Each is another part of the same zeros."""
    assert send_pack(web, [bytes(CHUNK_BYTES)]).status_code == 200
    chunks = (blake3(bytes(CHUNK_BYTES)).digest(),)
    sizes = [CHUNK_BYTES - i for i in range(1, 20)]
    files = tuple(
        FileEntry(f"{i:02}", size, bytes(32), (Share(size, 0, CHUNK_BYTES, chunks),))
        for i, size in enumerate(sizes)
    )
    before = DECODING.raw_bytes
    answer = web.post(COMMITS, content=pack_manifest(Manifest(files, CHUNK_BYTES)))
    assert code_of(answer) == (413, "too_expensive")
    assert DECODING.raw_bytes == before


def test_honest_small_files_are_taken_whatever_they_hold(tmp_path: Path, vault: LocalVault):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:03}.bin").write_bytes(blake3(b"%d" % number).digest(4096))
    with serving(create_app(vault)) as url:
        client = HttpVault(url)
        pushed = push.push(client, folder, REPO)
        client.close()
    # In bundles, each of which is a chunk.
    assert pushed.new_chunks < 10
    assert not vault.check().problems


def test_an_honest_file_of_zeros_is_taken_and_decoded_once(web: TestClient, vault: LocalVault):
    times = 7
    zeros = bytes(CHUNK_BYTES)
    send_pack(web, [zeros])
    before = DECODING.frames
    digest = blake3(bytes(CHUNK_BYTES * times)).digest()
    answer = web.post(COMMITS, content=repeat(zeros, times, digest))
    assert answer.status_code == 200, answer.text
    assert DECODING.frames == before + 1
    _, entry, pieces = vault.read_file(REPO, "main", "zeros.bin")
    assert blake3(b"".join(map(bytes, pieces))).digest() == entry.digest


def test_a_file_many_times_in_a_manifest_is_rebuilt_once(web: TestClient):
    raw = bytes(range(256)) * 4096
    send_pack(web, [raw])
    segment = Opaque(len(raw), (blake3(raw).digest(),))
    files = [FileEntry(f"{i:04}", len(raw), blake3(raw).digest(), (segment,)) for i in range(1000)]
    before = DECODING.frames
    manifest = pack_manifest(Manifest(tuple(files), CHUNK_BYTES))
    assert web.post(COMMITS, content=manifest).status_code == 200
    assert DECODING.frames == before + 1


def test_one_recipe_is_one_file(web: TestClient):
    raw = b"x" * 5000
    send_pack(web, [raw])
    segment = Opaque(len(raw), (blake3(raw).digest(),))
    files = [
        FileEntry(name, len(raw), digest, (segment,))
        for name, digest in (("a", blake3(raw).digest()), ("b", bytes(32)))
    ]
    answer = web.post(COMMITS, content=pack_manifest(Manifest(tuple(files), CHUNK_BYTES)))
    assert code_of(answer) == (400, "invalid_manifest")


def test_a_pack_of_equal_frames_is_refused(web: TestClient):
    before = DECODING.frames
    answer = send_pack(web, [bytes(MIB)] * 400)
    assert code_of(answer) == (400, "invalid_frame")
    assert "twice" in answer.json()["error"]["message"]
    assert DECODING.frames == before


def test_a_pack_that_decodes_to_much_more_is_refused(web: TestClient):
    """Constant chunks of 32 MiB take 65 bytes each."""
    pack = make_pack([bytes([i]) * CHUNK_BYTES for i in range(40)])
    before = DECODING.frames
    assert len(pack[1]) < 10_000
    answer = web.put(f"/v1/packs/{pack[0]}", content=pack[1])
    assert code_of(answer) == (413, "too_expensive")
    assert DECODING.frames == before


def test_a_client_sends_no_pack_that_is_refused(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of what compresses well it sends more packs."""
    monkeypatch.setattr(expansion, "FREE_PACK_BYTES", MIB)
    monkeypatch.setattr(push, "FREE_PACK_BYTES", MIB)
    shapes = {f"layer.{i}": (256, 1024) for i in range(12)}
    weights = {
        name: raw * 0 + i for i, (name, raw) in enumerate(make_weights(1, shapes).items(), 1)
    }
    folder = write_model(tmp_path / "constant", weights)
    with serving(create_app(vault)) as url:
        remote = HttpVault(url)
        push.push(remote, folder, REPO)
        remote.close()
    packs = list(vault.backend.list("packs/"))
    assert len(packs) > 4


def test_whoever_has_the_vault_is_not_bounded_and_what_is_stored_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(expansion, "FREE_BYTES", MIB)
    raw = bytes(4 * MIB)
    vault = open_local(tmp_path / "old")
    (tmp_path / "zeros.bin").write_bytes(raw)
    push.push(vault, tmp_path / "zeros.bin", REPO, chunk_bytes=1 << 16)
    manifest = pack_manifest(vault.resolve(REPO).manifest)
    vault.close()
    vault = open_anew(tmp_path / "old")
    with TestClient(create_app(vault)) as web:
        assert web.get(f"/v1/repos/{REPO}/files/zeros.bin").content == raw
        # Known files are rebuilt for nobody.
        assert web.post("/v1/repos/org/second/commits", content=manifest).status_code == 200
    vault.close()


def test_an_answer_of_frames_that_repeats_itself_for_long_is_refused(web: TestClient):
    raw = bytes(MIB)
    send_pack(web, [raw])
    web.post(COMMITS, content=repeat(raw, 1, blake3(raw).digest()))
    asked = {"digests": [blake3(raw).hexdigest()] * 10_000}
    answer = web.post(f"/v1/repos/{REPO}/frames", json=asked)
    assert code_of(answer) == (413, "too_expensive")


# Clients of hubs


class Cas:
    """What a Xet client does with the address and the token that it was given."""

    def __init__(self, web: TestClient) -> None:
        self._web = web
        told = web.get(f"/api/models/{REPO}/xet-write-token/main").json()
        self._url = told["casUrl"]
        self._headers = {"Authorization": f"Bearer {told['accessToken']}"}

    def post(self, path: str, content: bytes) -> httpx.Response:
        return self._web.post(f"{self._url}{path}", content=content, headers=self._headers)

    def send_xorb(self, chunks: list[bytes]) -> bytes:
        digest, data = pack_xorb(chunks, LZ4)
        answer = self.post(f"/v1/xorbs/default/{format_hash(digest)}", data)
        assert answer.status_code == 200, answer.text
        return digest


@pytest.fixture
def cas(web: TestClient) -> Cas:
    web.post(COMMITS, content=pack_manifest(Manifest((), CHUNK_BYTES)))
    return Cas(web)


def test_a_shard_that_repeats_a_xorb_is_refused(cas: Cas, vault: LocalVault):
    chunks = [i.to_bytes(4, "little") + bytes(127 * 1024) for i in range(64)]
    xorb = cas.send_xorb(chunks)
    before = {info.key for info in vault.backend.list()}
    shard = pack_shard([pack_file([(xorb, chunks, 0)] * 40)])
    assert len(shard) < 5000
    answer = cas.post("/v1/shards", shard)
    assert answer.status_code == 413
    assert "out of" in answer.json()["error"]
    told = json.loads(cas.post("/v2/shards", shard).text.splitlines()[-1])
    assert (told["type"], told["retryable"]) == ("error", False)
    assert {info.key for info in vault.backend.list()} == before


def test_a_shard_of_endless_ranges_is_refused_before_they_are_hashed(cas: Cas):
    chunks = [bytes([i]) for i in range(200)]
    xorb = cas.send_xorb(chunks)
    shard = pack_shard([pack_file([(xorb, chunks, 0)] * 500)])
    assert cas.post("/v1/shards", shard).status_code == 413


def test_a_shard_of_many_files_is_taken_a_part_at_a_time(
    cas: Cas, web: TestClient, vault: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shard_budget, "BASE_SECONDS", 0.1)
    monkeypatch.setattr(xet_uploads, "_BATCH_FILES", 4)
    chunks = [b"%04d" % i * 25 for i in range(30)]
    xorb = cas.send_xorb(chunks)
    shard = pack_shard([pack_file([(xorb, [c], i)]) for i, c in enumerate(chunks)])
    answers = [cas.post("/v1/shards", shard)]
    while answers[-1].status_code == 503 and len(answers) < 31:
        assert "of the 30 files of this upload are stored" in answers[-1].text
        answers.append(cas.post("/v1/shards", shard))
    assert len(answers) > 1
    assert answers[-1].status_code == 200
    incoming = IncomingFiles(vault)
    for chunk in chunks:
        assert incoming.get(hashlib.sha256(chunk).digest(), REPO) is not None
    told = json.loads(cas.post("/v2/shards", shard).text.splitlines()[-1])
    assert told["type"] in ("result", "error")
    assert told.get("retryable", True)


def test_an_honest_shard_that_repeats_what_it_sent_is_taken(cas: Cas, web: TestClient):
    chunks = [hashlib.shake_256(bytes([i])).digest(100_000) for i in range(8)]
    xorb = cas.send_xorb(chunks)
    shard = pack_shard([pack_file([(xorb, chunks, 0)] * 20)])
    assert cas.post("/v1/shards", shard).status_code == 200
    sha256 = hashlib.sha256(b"".join(chunks) * 20).digest()
    assert web.app.state.hub.incoming.get(sha256, REPO) is not None  # type: ignore[attr-defined]


def test_a_file_at_many_paths_is_looked_for_once(
    web: TestClient, vault: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    incoming = IncomingFiles(vault)
    History(vault, incoming).create_repo(REPO, Message("first"))
    oid = incoming.add([b"hello"], REPO).sha256.hex()
    looked: list[bytes] = []
    find = IncomingFiles.get

    def get(self: IncomingFiles, sha256: bytes, repo: str) -> object:
        looked.append(sha256)
        return find(self, sha256, repo)

    monkeypatch.setattr(IncomingFiles, "get", get)
    lines = [{"key": "header", "value": {"summary": "x"}}]
    lines += [{"key": "lfsFile", "value": {"path": f"{i}", "oid": oid}} for i in range(2000)]
    body = "\n".join(map(json.dumps, lines))
    assert web.post(f"/api/models/{REPO}/commit/main", content=body).status_code == 200
    assert len(looked) < 5


def ask_batch(web: TestClient, sizes: Sequence[int]) -> httpx.Response:
    web.post(COMMITS, content=pack_manifest(Manifest((), CHUNK_BYTES)))
    objects = [{"oid": f"{i:064x}", "size": size} for i, size in enumerate(sizes)]
    asked = {"operation": "upload", "transfers": ["multipart"], "objects": objects}
    return web.post(f"/{REPO}.git/info/lfs/objects/batch", json=asked)


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_files_of_stated_terabytes_get_short_answers(web: TestClient, count: int):
    size = 4 << 40
    answer = ask_batch(web, [size] * count)
    assert answer.status_code == 200
    assert len(answer.content) < min(5_000_000, 800_000 * count)
    for line in answer.json()["objects"]:
        header = line["actions"]["upload"]["header"]
        part = int(header.pop("chunk_size"))
        assert (len(header) - 1) * part < size <= len(header) * part


def test_files_longer_than_any_are_refused(web: TestClient):
    (told,) = ask_batch(web, [1 << 50]).json()["objects"]
    assert (told["error"]["code"], "actions" in told) == (422, False)


def test_the_bound_is_a_kind_of_its_own():
    with pytest.raises(TooExpensive) as caught:
        expansion.check_references(1 << 40, 1, 1 << 20)
    assert "git-lfs" in (caught.value.hint or "")
    expansion.check_references(16 << 30, 1, 1 << 30)

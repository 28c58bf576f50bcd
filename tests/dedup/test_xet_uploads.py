"""Xorbs and shards become files, and stay readable as xorbs; lies and losses are found out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from vaults import open_local
from xet_samples import GROUPED, LZ4, PLAIN, golden, golden_files, pack_file, pack_shard, pack_xorb

from weightvault.dedup.collect import Collector
from weightvault.dedup.errors import Conflict, Corrupt, InvalidUpload
from weightvault.dedup.incoming import KEEP_SECONDS, IncomingFiles
from weightvault.dedup.local import LocalVault
from weightvault.dedup.manifest import Manifest
from weightvault.dedup.repair import Repairer
from weightvault.dedup.scrub import Scrubber
from weightvault.dedup.xet.hashes import hash_chunk, hash_xorb, parse_hash
from weightvault.dedup.xet.shard import Shard
from weightvault.dedup.xet.uploads import XetUploads
from weightvault.store.catalogue import open_catalogue
from weightvault.store.open import open_backend

GOLDEN_XORB = "28cc71451b7d49ce7df9582f5c6ec11b03f63fd0ed03ef81762639a129676cfd"
DAY = 24 * 3600.0
Segments = Sequence[tuple[bytes, Sequence[bytes], int]]


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Server:
    """A vault that takes uploads, and what a client does with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        self.serve(open_local(self.root))

    def serve(self, vault: LocalVault) -> None:
        self.vault = vault
        self.incoming = IncomingFiles(self.vault)
        self.uploads = XetUploads(self.vault, self.incoming, now=self.clock)

    def send_xorb(self, owner: str, chunks: Sequence[bytes], scheme: int = PLAIN) -> bytes:
        digest, data = pack_xorb(chunks, scheme)
        self.send_bytes(owner, digest, data)
        return digest

    def send_bytes(self, owner: str, digest: bytes, data: bytes) -> bool:
        path = self.root / "sent"
        path.write_bytes(data)
        return self.uploads.add_xorb(self.uploads.open_generation(owner), digest, path)

    def send_shard(self, repo: str, *files: bytes, xorbs=()) -> None:
        generation = self.uploads.open_generation(repo.split("/")[-2])
        self.uploads.add_shard(generation, repo, Shard(pack_shard(files, xorbs)))

    def upload(self, repo: str, segments: Segments) -> bytes:
        """Sends a shard with one file and returns the file as the vault has it."""
        self.send_shard(repo, pack_file(segments))
        return self.read(repo, b"".join(c for _, chunks, _ in segments for c in chunks))

    def read(self, repo: str, data: bytes) -> bytes:
        file = self.incoming.get(hashlib.sha256(data).digest(), repo)
        assert file is not None
        return b"".join(map(bytes, self.incoming.read(file)))

    def commit(self, repo: str, data: bytes) -> None:
        file = self.incoming.get(hashlib.sha256(data).digest(), repo)
        assert file is not None
        self.vault.commit(repo, "main", Manifest((file.entry,), file.chunk_bytes))

    def objects(self, suffix: str = "") -> list[str]:
        return [i.key for i in self.vault.backend.list("xorbs/") if i.key.endswith(suffix)]

    def kept(self) -> list[str]:
        return [key for key in self.objects() if not key.endswith(".index")]

    def collect(self, grace: float = 0.0) -> None:
        # Objects as old as the grace are not yet gone: files have the time of the real clock.
        Collector(self.vault, grace_seconds=grace, now=self.clock).run()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def make_chunks(seed: int, count: int, size: int = 5000) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size + i) for i in range(count)]


def test_what_the_real_client_sends_becomes_its_files(server: Server):
    assert server.send_bytes("org", parse_hash(GOLDEN_XORB), golden("xorb"))
    assert not server.send_bytes("org", parse_hash(GOLDEN_XORB), golden("xorb"))
    generation = server.uploads.open_generation("org")
    seen = []
    shard = Shard(golden("shard"))
    server.uploads.add_shard(generation, "org/model", shard, lambda: seen.append(1))
    assert len(seen) == 3
    for data in golden_files().values():
        assert server.read("org/model", data) == data


@pytest.mark.parametrize("scheme", [PLAIN, LZ4, GROUPED])
def test_chunks_are_dropped_once_files_have_them_and_read_from_there(server: Server, scheme: int):
    a, b = make_chunks(1, 9), make_chunks(2, 5)
    first = server.send_xorb("org", a, scheme)
    second = server.send_xorb("org", b, scheme)
    assert len(server.kept()) == 2
    whole = [(first, a, 0), (second, b, 0)]
    assert server.upload("org/model", whole) == b"".join(a + b)
    assert server.kept() == []
    # Another file of ranges of both, which only the first file has now.
    mixed = [(second, b[1:3], 1), (first, a[4:], 4), (second, b[:1], 0)]
    assert server.upload("org/other", mixed) == b"".join(b[1:3] + a[4:] + b[:1])


def test_chunks_stay_until_all_of_them_are_in_files(server: Server):
    chunks = make_chunks(3, 6)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks[:3], 0)])
    assert len(server.kept()) == 1
    server.upload("org/model", [(xorb, chunks[4:], 4)])
    assert len(server.kept()) == 1
    server.upload("org/model", [(xorb, chunks[3:4], 3)])
    assert server.kept() == []
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)


def test_known_file_is_not_put_together_again(server: Server, monkeypatch: pytest.MonkeyPatch):
    chunks = make_chunks(4, 3)
    xorb = server.send_xorb("org", chunks)
    segments = [(xorb, chunks, 0)]
    server.upload("org/model", segments)
    monkeypatch.setattr(server.incoming, "add", None)
    assert server.upload("org/model", segments) == b"".join(chunks)
    with pytest.raises(InvalidUpload, match="SHA-256"):
        server.send_shard("org/model", pack_file(segments, sha256=bytes(32)))


def test_xorb_that_does_not_hash_to_its_name_is_refused(server: Server):
    _, data = pack_xorb(make_chunks(5, 3))
    with pytest.raises(InvalidUpload, match="not those of xorb"):
        server.send_bytes("org", bytes(32), data)
    assert server.objects() == []


def test_shards_that_lie_are_refused_and_leave_nothing(server: Server):
    chunks = make_chunks(6, 4)
    xorb = server.send_xorb("org", chunks)
    whole = [(xorb, chunks, 0)]
    lies = {
        "do not make it up": pack_file(whole, hash=bytes(32)),
        "without proof": pack_file(whole, proof=bytes(32)),
        "have the SHA-256": pack_file(whole, sha256=bytes(32)),
        r"without the chunks \[1, 5\)": pack_file([(xorb, chunks, 1)]),
        "without proof|has not": pack_file([(xorb, chunks[1:], 0)]),
    }
    for message, record in lies.items():
        with pytest.raises(InvalidUpload, match=message):
            server.send_shard("org/model", record)
    assert server.incoming.get(hashlib.sha256(b"".join(chunks)).digest(), "org/model") is None
    # The truth still works: no lie ended the generation.
    assert server.upload("org/model", whole) == b"".join(chunks)


def test_empty_file_and_file_without_sha256(server: Server):
    chunks = make_chunks(7, 2)
    xorb = server.send_xorb("org", chunks)
    record = pack_file([(xorb, chunks, 0)])
    header = record[:32] + (1 << 31).to_bytes(4, "little") + record[36:-48]
    empty = pack_file([], hash=bytes(32))
    server.send_shard("org/model", header, empty)
    assert server.read("org/model", b"".join(chunks)) == b"".join(chunks)
    assert server.read("org/model", b"") == b""


def test_owners_share_nothing(server: Server):
    chunks = make_chunks(8, 3)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    mine, theirs = (server.uploads.open_generation(owner) for owner in ("org", "else"))
    assert mine.name != theirs.name
    assert server.uploads.knows_xorb(mine, xorb)
    assert not server.uploads.knows_xorb(theirs, xorb)
    assert server.uploads.find_marked(theirs, hash_chunk(chunks[0])) is None
    with pytest.raises(Conflict):
        server.send_shard("else/model", pack_file([(xorb, chunks, 0)]))
    # Datasets of the same owner may use it.
    assert server.upload("datasets/org/data", [(xorb, chunks, 0)]) == b"".join(chunks)


def test_unknown_xorb_ends_the_generation(server: Server):
    chunks = make_chunks(9, 3)
    before = server.uploads.open_generation("org")
    assert server.uploads.open_generation("org") == before
    for shard in ([pack_file([(bytes(32), chunks, 0)])], []):
        with pytest.raises(Conflict, match="not here") as caught:
            server.send_shard("org/model", *shard, xorbs=[(bytes(32), chunks)])
        assert caught.value.hint
        assert "upload again" in caught.value.hint
        after = server.uploads.open_generation("org")
        assert after.name != before.name
        with pytest.raises(Conflict):
            server.uploads.find_generation(before.name)
        before = after


def test_deleted_object_of_a_xorb_ends_the_generation(server: Server):
    chunks = make_chunks(10, 3)
    xorb = server.send_xorb("org", chunks)
    before = server.uploads.open_generation("org")
    (key,) = server.kept()
    server.vault.backend.delete(key)
    assert not server.uploads.knows_xorb(before, xorb)
    with pytest.raises(Conflict, match="cannot be read"):
        server.send_shard("org/model", pack_file([(xorb, chunks, 0)]))
    xorb = server.send_xorb("org", chunks)
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)
    assert server.uploads.open_generation("org").name != before.name


@pytest.mark.parametrize("what", ["", ".index"])
def test_flipped_byte_never_becomes_a_file(server: Server, what: str):
    chunks = make_chunks(11, 3)
    xorb = server.send_xorb("org", chunks)
    (key,) = server.objects(what) if what else server.kept()
    data = bytearray(server.vault.backend.get(key))
    data[len(data) // 2] ^= 1
    server.vault.backend.put(key, bytes(data))
    with pytest.raises(Conflict):
        server.send_shard("org/model", pack_file([(xorb, chunks, 0)]))
    xorb = server.send_xorb("org", chunks)
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)


def test_damaged_file_ends_the_generation_and_is_mended_by_the_next_try(server: Server):
    chunks = make_chunks(12, 4, 70_000)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    before = server.uploads.open_generation("org")
    for info in list(server.vault.backend.list("packs/")):
        data = bytearray(server.vault.backend.get(info.key))
        data[len(data) // 2] ^= 1
        server.vault.backend.put(info.key, bytes(data))
    with pytest.raises(Corrupt):
        server.read("org/model", b"".join(chunks))
    with pytest.raises(Conflict, match="cannot be read"):
        server.send_shard("org/other", pack_file([(xorb, chunks[1:], 1)]))
    assert server.uploads.open_generation("org").name != before.name
    xorb = server.send_xorb("org", chunks)
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)
    # What is left of the damage is garbage.
    assert all("affects no file" in problem for problem in Scrubber(server.vault).run().problems)


def test_deleting_the_repo_makes_clients_start_anew(server: Server):
    chunks = make_chunks(13, 3)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    server.commit("org/model", b"".join(chunks))
    before = server.uploads.open_generation("org")
    server.vault.delete_repo("org/model")
    server.clock.ahead = KEEP_SECONDS + DAY
    server.uploads.knows_xorb(before, xorb)
    after = server.uploads.open_generation("org")
    assert after.name != before.name
    xorb = server.send_xorb("org", chunks)
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)


def test_committed_file_keeps_the_generation_after_its_upload_expired(server: Server):
    chunks = make_chunks(14, 3)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    server.commit("org/model", b"".join(chunks))
    before = server.uploads.open_generation("org")
    server.clock.ahead = KEEP_SECONDS - DAY
    assert server.uploads.knows_xorb(before, xorb)
    server.clock.ahead = 2 * KEEP_SECONDS - 2 * DAY
    server.collect()
    assert server.uploads.open_generation("org") == before
    assert server.upload("org/model", [(xorb, chunks[1:], 1)]) == b"".join(chunks[1:])


def test_collection_takes_what_killed_clients_left(server: Server):
    chunks = make_chunks(15, 3)
    server.send_xorb("org", chunks)
    server.collect(grace=DAY)
    assert len(server.kept()) == 1
    server.clock.ahead = 2 * DAY
    server.collect(grace=DAY)
    assert server.objects() == []
    # The client remembers it all the same: told so once, it starts anew.
    xorb, _ = pack_xorb(chunks)
    with pytest.raises(Conflict):
        server.send_shard("org/model", pack_file([(xorb, chunks, 0)]))
    server.send_xorb("org", chunks)
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)


def test_collection_takes_xorbs_unused_for_weeks_and_ended_generations(server: Server):
    chunks, more = make_chunks(16, 3), make_chunks(17, 3)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    server.commit("org/model", b"".join(chunks))
    server.clock.ahead = KEEP_SECONDS - DAY
    server.collect()
    assert len(server.objects(".index")) == 1
    server.clock.ahead = KEEP_SECONDS + DAY
    server.collect()
    assert server.objects() == []
    server.send_xorb("org", more)
    with pytest.raises(Conflict):
        server.send_shard("org/model", pack_file([(bytes(32), chunks, 0)]))
    assert len(server.objects()) == 2
    server.clock.ahead += DAY
    server.collect()
    assert server.objects() == []


def test_objects_of_another_catalogue_are_left_for_weeks(server: Server):
    server.vault.backend.put(f"xorbs/{'0' * 32}/{'1' * 64}", b"theirs")
    server.clock.ahead = KEEP_SECONDS - DAY
    server.collect()
    assert len(server.objects()) == 1
    server.clock.ahead = KEEP_SECONDS + DAY
    server.collect()
    assert server.objects() == []


def test_restart_between_xorb_and_shard_and_commit(server: Server):
    chunks = make_chunks(18, 3)
    xorb = server.send_xorb("org", chunks)
    server.open()
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)
    server.open()
    server.commit("org/model", b"".join(chunks))
    assert server.upload("org/model", [(xorb, chunks[1:], 1)]) == b"".join(chunks[1:])


def test_rebuilt_catalogue_keeps_files_and_starts_a_new_generation(server: Server):
    chunks = make_chunks(19, 3)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    before = server.uploads.open_generation("org")
    server.vault.close()
    for path in server.root.glob("catalogue.sqlite*"):
        path.unlink()
    server.open()
    assert server.read("org/model", b"".join(chunks)) == b"".join(chunks)
    assert server.uploads.open_generation("org").name != before.name


def test_marked_chunks_name_their_xorb(server: Server):
    chunks = make_chunks(20, 6)
    xorb = server.send_xorb("org", chunks)
    generation = server.uploads.open_generation("org")
    assert server.uploads.find_marked(generation, hash_chunk(chunks[2])) is None
    server.upload("org/model", [(xorb, chunks[2:], 2)])
    index = server.uploads.find_marked(generation, hash_chunk(chunks[2]))
    assert index is not None
    assert index.hash == xorb
    assert list(index.chunks()) == [(hash_chunk(c), len(c)) for c in chunks]


def test_servers_that_share_database_and_bucket(tmp_path: Path, postgres_url: str, s3_url: str):
    servers = []
    for name in ("a", "b"):
        scratch = tmp_path / name
        scratch.mkdir()
        server = Server(scratch)
        catalogue = open_catalogue(postgres_url, migrate=True)
        server.serve(LocalVault(open_backend(s3_url), catalogue, scratch=scratch))
        servers.append(server)
    a, b = servers
    chunks, more = make_chunks(21, 5), make_chunks(22, 4)
    first, second = a.send_xorb("org", chunks), b.send_xorb("org", more)
    assert a.uploads.open_generation("org") == b.uploads.open_generation("org")
    whole = b"".join(chunks + more)
    assert b.upload("org/model", [(first, chunks, 0), (second, more, 0)]) == whole
    assert a.kept() == []
    part = [(second, more[1:], 1), (first, chunks[:2], 0)]
    assert a.upload("org/other", part) == b"".join(more[1:] + chunks[:2])
    with pytest.raises(Conflict):
        a.send_shard("org/model", pack_file([(bytes(32), chunks, 0)]))
    assert b.uploads.open_generation("org") == a.uploads.open_generation("org")
    a.clock.ahead = 2 * DAY
    a.collect(grace=DAY)
    assert b.objects() == []
    for server in servers:
        server.vault.close()


def test_many_uploads_at_once(server: Server):
    def upload(seed: int) -> bool:
        chunks = make_chunks(seed % 4, 6)
        xorb = hash_xorb([(hash_chunk(c), len(c)) for c in chunks])
        path = server.root / f"sent{seed}"
        path.write_bytes(pack_xorb(chunks)[1])
        server.uploads.add_xorb(server.uploads.open_generation("org"), xorb, path)
        return server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)

    with ThreadPoolExecutor(6) as clients:
        assert all(clients.map(upload, range(24)))
    assert server.kept() == []


def test_scrub_and_repair_see_to_indexes(server: Server):
    chunks = make_chunks(23, 3)
    xorb = server.send_xorb("org", chunks)
    server.upload("org/model", [(xorb, chunks, 0)])
    assert Scrubber(server.vault).run().problems == []
    (key,) = server.objects(".index")
    data = bytearray(server.vault.backend.get(key))
    data[5] ^= 1
    server.vault.backend.put(key, bytes(data))
    (problem,) = Scrubber(server.vault).run().problems
    assert key in problem
    assert "send it again" in problem
    before = server.uploads.open_generation("org")
    Repairer(server.vault).run()
    assert Scrubber(server.vault).run().problems == []
    assert server.uploads.open_generation("org") != before
    xorb = server.send_xorb("org", chunks)
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)

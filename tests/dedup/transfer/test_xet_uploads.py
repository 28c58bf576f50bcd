"""Xorbs and shards become files, and stay readable as xorbs; lies are found out."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event
from vaults import open_anew
from xet_samples import (
    GROUPED,
    LZ4,
    PLAIN,
    golden,
    golden_files,
    pack_file,
    pack_shard,
    pack_xorb,
)
from xet_server import Server, make_chunks

from weightvault.dedup.errors import Conflict, InvalidUpload
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer import shard_budget
from weightvault.dedup.verification.check import check_vault
from weightvault.dedup.xet.hashes import hash_chunk, parse_hash
from weightvault.dedup.xet.shard import Shard
from weightvault.store.catalogue.lost_entries import find_heads

GOLDEN_XORB = "28cc71451b7d49ce7df9582f5c6ec11b03f63fd0ed03ef81762639a129676cfd"


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
    xorb = server.send_file("org/model", chunks)
    mine, theirs = (server.uploads.open_generation(owner) for owner in ("org", "else"))
    assert mine.name != theirs.name
    assert server.uploads.knows_xorb(mine, xorb)
    assert not server.uploads.knows_xorb(theirs, xorb)
    assert server.uploads.find_marked(theirs, hash_chunk(chunks[0])) is None
    with pytest.raises(Conflict):
        server.send_shard("else/model", pack_file([(xorb, chunks, 0)]))
    # Datasets of the same owner may use it.
    assert server.upload("datasets/org/data", [(xorb, chunks, 0)]) == b"".join(chunks)


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


def test_many_uploads_at_once(server: Server):
    def upload(seed: int) -> None:
        server.send_file("org/model", make_chunks(seed % 4, 6))

    with ThreadPoolExecutor(6) as clients:
        list(clients.map(upload, range(24)))
    assert server.kept() == []


def count_statements(server: Server, files: list[bytes]) -> int:
    """Sends a shard; returns how many statements its files took."""
    seen = []
    engine = server.vault.catalogue.engine
    generation = server.uploads.open_generation("org")
    shard = Shard(pack_shard(files))

    def note(*_: object) -> None:
        seen.append(1)

    event.listen(engine, "before_cursor_execute", note)
    server.uploads.add_shard(generation, "org/model", shard)
    event.remove(engine, "before_cursor_execute", note)
    return len(seen)


def test_many_short_files_are_put_on_record_together(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    # Statements are counted here, not time: a slow machine would take them a part at a time.
    monkeypatch.setattr(shard_budget, "BASE_SECONDS", 600.0)
    chunks = [b"short file %05d" % number for number in range(300)]
    xorb = server.send_xorb("org", chunks)
    files = [pack_file([(xorb, [chunk], number)]) for number, chunk in enumerate(chunks)]
    few = count_statements(server, files[:32])
    many = count_statements(server, files[32:288])
    assert few < 32 * 6
    assert many < 256 * 6
    for chunk in chunks[:288]:
        assert server.read("org/model", chunk) == chunk
    assert server.kept()
    count_statements(server, files[288:])
    assert not server.kept()
    assert len(find_heads(server.vault.catalogue)) == 1
    server.vault.close()
    server.serve(open_anew(server.root))
    assert all(server.read("org/model", chunk) == chunk for chunk in chunks)
    vault = server.vault
    assert not check_vault(vault.backend, vault.catalogue, Progress()).problems


def test_files_of_one_content_in_a_shard_are_one(server: Server):
    xorb = server.send_xorb("org", [b"one", b"two"])
    one, two = pack_file([(xorb, [b"one"], 0)]), pack_file([(xorb, [b"two"], 1)])
    server.send_shard("org/model", one, two, one, two, one)
    assert server.read("org/model", b"one") == b"one"
    assert server.read("org/model", b"two") == b"two"
    lie = pack_file([(xorb, [b"one"], 0)], sha256=bytes(32))
    with pytest.raises(InvalidUpload, match="SHA-256"):
        server.send_shard("org/other", one, lie)


def test_a_lie_among_many_files_keeps_none_of_its_batch(server: Server):
    chunks = [b"file %d" % number for number in range(10)]
    xorb = server.send_xorb("org", chunks)
    files = [pack_file([(xorb, [chunk], number)]) for number, chunk in enumerate(chunks)]
    files[7] = pack_file([(xorb, [chunks[7]], 7)], sha256=bytes(32))
    with pytest.raises(InvalidUpload, match="SHA-256"):
        server.send_shard("org/model", *files)
    for chunk in chunks:
        assert server.incoming.get(hashlib.sha256(chunk).digest(), "org/model") is None

"""Shards: those of the real client are understood, and those that are malformed refused."""

import contextlib
import hashlib
import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xet_samples import END, TAG, golden, golden_files, pack_file, pack_shard, pack_xorb

from weightvault.dedup.errors import InvalidUpload
from weightvault.dedup.xet.hashes import TreeHasher, hash_chunk, hash_range
from weightvault.dedup.xet.shard import Shard
from weightvault.dedup.xet.xorb import read_chunks


def walk(data: bytes) -> int:
    """Reads everything a shard says; returns how many records that was."""
    shard = Shard(data)
    segments = sum(1 for file in shard.files() for _ in file.segments())
    return segments + sum(1 for xorb in shard.xorbs() for _ in xorb.chunks())


def test_golden_shard_tells_how_the_golden_files_are_made():
    chunks = [bytes(c) for c in read_chunks(io.BytesIO(golden("xorb")))]
    shard = Shard(golden("shard"))
    (xorb,) = shard.xorbs()
    assert list(xorb.chunks()) == [(hash_chunk(c), len(c)) for c in chunks]
    assert xorb.size == sum(map(len, chunks))
    found = {}
    for file in shard.files():
        data, tree = b"", TreeHasher()
        for segment in file.segments():
            part = chunks[segment.first : segment.stop]
            assert segment.xorb == xorb.hash
            assert segment.size == sum(map(len, part))
            assert segment.proof == hash_range(b"".join(map(hash_chunk, part)))
            for chunk in part:
                tree.add(hash_chunk(chunk), len(chunk))
            data += b"".join(part)
        assert file.hash == tree.file_hash()
        assert file.sha256 == hashlib.sha256(data).digest()
        found[file.sha256] = data
    assert set(found.values()) == set(golden_files().values())


def test_own_samples_are_what_the_client_makes():
    chunks = [bytes(c) for c in read_chunks(io.BytesIO(golden("xorb")))]
    xorb = pack_xorb(chunks)[0]
    shard = Shard(golden("shard"))
    records = []
    for file in shard.files():
        segments = [(xorb, chunks[s.first : s.stop], s.first) for s in file.segments()]
        records.append(pack_file(segments))
    ours = pack_shard(records, [(xorb, chunks)])
    assert len(ours) == len(golden("shard"))
    assert [f.hash for f in Shard(ours).files()] == [f.hash for f in shard.files()]
    assert [f.sha256 for f in Shard(ours).files()] == [f.sha256 for f in shard.files()]


def test_what_follows_the_records_is_ignored():
    assert walk(golden("shard") + b"lookup tables and a footer") == walk(golden("shard"))


def test_empty_sections_are_a_shard():
    assert walk(pack_shard([])) == 0


@pytest.mark.parametrize("cut", range(0, 1008, 7))
def test_truncated_shard_is_refused(cut: int):
    with pytest.raises(InvalidUpload, match=r"ends inside|not a shard"):
        Shard(golden("shard")[:cut])


@settings(max_examples=400)
@given(st.integers(0, 1007), st.integers(1, 255))
def test_flipped_bytes_are_a_typed_error_or_another_shard(at: int, flip: int):
    data = bytearray(golden("shard"))
    data[at] ^= flip
    with contextlib.suppress(InvalidUpload):
        walk(bytes(data))


@given(st.binary(max_size=500))
def test_anything_else_is_a_typed_error(data: bytes):
    for prefix in (b"", TAG + struct.pack("<QQ", 2, 0)):
        with contextlib.suppress(InvalidUpload):
            walk(prefix + data)


@pytest.mark.parametrize("count", [1, 1 << 20, (1 << 32) - 1])
def test_counts_are_not_believed(count: int):
    header = TAG + struct.pack("<QQ", 2, 0)
    file = struct.pack("<32sIIQ", bytes(32), 1 << 31, count, 0)
    xorb = struct.pack("<32sIIII", bytes(32), 0, count, 0, 0)
    for body in (file + END, END + xorb):
        with pytest.raises(InvalidUpload, match="ends inside its records"):
            Shard(header + body)


def test_other_versions_and_missing_proofs_are_refused():
    with pytest.raises(InvalidUpload, match="version 2"):
        Shard(TAG + struct.pack("<QQ", 3, 0) + END + END)
    file = struct.pack("<32sIIQ", bytes(32), 0, 0, 0)
    with pytest.raises(InvalidUpload, match="without proofs"):
        Shard(pack_shard([file]))

"""Xorbs: what clients send is read back, and what is malformed is refused in bounded memory."""

import io
import tracemalloc

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xet_samples import GROUPED, LZ4, PLAIN, golden, golden_files, pack_chunk, pack_xorb

from weightvault.dedup.errors import InvalidUpload
from weightvault.dedup.xet.hashes import format_hash, hash_chunk, hash_xorb
from weightvault.dedup.xet.xorb import MAX_XORB_BYTES, MAX_XORB_CHUNKS, read_chunks

GOLDEN_HASH = "28cc71451b7d49ce7df9582f5c6ec11b03f63fd0ed03ef81762639a129676cfd"


def read(data: bytes) -> list[bytes]:
    return [bytes(chunk) for chunk in read_chunks(io.BytesIO(data))]


def test_golden_xorb_hashes_to_its_name_and_holds_the_files():
    chunks = read(golden("xorb"))
    digest = hash_xorb([(hash_chunk(c), len(c)) for c in chunks])
    assert format_hash(digest) == GOLDEN_HASH
    stored = b"".join(chunks)
    assert all(data[-8000:] in stored for data in golden_files().values())


def test_golden_xorb_has_all_schemes():
    data, schemes, at = golden("xorb"), set(), 0
    while at < len(data):
        schemes.add(data[at + 4])
        at += 8 + int.from_bytes(data[at + 1 : at + 4], "little")
    assert schemes == {PLAIN, LZ4, GROUPED}


@given(
    st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8),
    st.sampled_from([PLAIN, LZ4, GROUPED]),
    st.booleans(),
)
def test_chunks_round_trip(chunks: list[bytes], scheme: int, footer: bool):
    digest, data = pack_xorb(chunks, scheme)
    found = read(data + b"XETBLOB\x01whatever" * footer)
    assert found == chunks
    assert digest == hash_xorb([(hash_chunk(c), len(c)) for c in found])


@pytest.mark.parametrize("cut", range(0, 17_175, 97))
def test_truncated_xorb_is_refused_or_shorter(cut: int):
    data = golden("xorb")[:cut]
    try:
        chunks = read(data)
    except InvalidUpload:
        return
    # Cut exactly between two chunks: a xorb, but of another hash.
    assert format_hash(hash_xorb([(hash_chunk(c), len(c)) for c in chunks])) != GOLDEN_HASH


@settings(max_examples=400)
@given(st.integers(0, 17_174), st.integers(1, 255))
def test_flipped_bytes_never_pass_for_the_xorb(at: int, flip: int):
    data = bytearray(golden("xorb"))
    data[at] ^= flip
    try:
        chunks = read(bytes(data))
    except InvalidUpload:
        return
    # Some bits of an LZ4 frame mean nothing; then the chunks are the same, and so is the hash.
    digest = hash_xorb([(hash_chunk(c), len(c)) for c in chunks])
    assert format_hash(digest) != GOLDEN_HASH or chunks == read(golden("xorb"))


@given(st.binary(max_size=400))
def test_anything_else_is_a_typed_error(data: bytes):
    try:
        for chunk in read_chunks(io.BytesIO(data)):
            assert len(chunk) > 0
    except InvalidUpload:
        pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without chunks"),
        (b"XETBLOB\x00", "without chunks"),
        (pack_chunk(b"abc", version=1), "version 1"),
        (pack_chunk(b"abc", scheme=3), "scheme 3"),
        (pack_chunk(b"abc", raw=0), "empty"),
        (pack_chunk(b"abc", raw=4), "3 bytes, not 4"),
        (pack_chunk(b"abc", stored=4), "ends inside chunk 0"),
        (pack_chunk(b"abc" * 9, LZ4, raw=26), "27 bytes, not 26"),
        (pack_chunk(b"abc" * 9, LZ4, raw=28), "27 bytes, not 28"),
        (pack_chunk(b"abc") + b"\x00\x01", "header of chunk 1"),
        (pack_chunk(b"no frame", PLAIN, scheme=1, raw=99), "does not decompress"),
    ],
)
def test_lies_are_named(data: bytes, message: str):
    with pytest.raises(InvalidUpload, match=message):
        read(data)


def test_data_after_a_frame_is_refused():
    frame = lz4.frame.compress(b"abc") * 2
    header = pack_chunk(b"abc", LZ4, stored=len(frame))[:8]
    with pytest.raises(InvalidUpload, match="not one whole"):
        read(header + frame)


def test_limits_hold():
    with pytest.raises(InvalidUpload, match="8192 chunks"):
        read(pack_chunk(b"a") * (MAX_XORB_CHUNKS + 1))
    assert len(read(pack_chunk(b"a") * MAX_XORB_CHUNKS)) == MAX_XORB_CHUNKS
    large = pack_chunk(bytes(1 << 23), LZ4)
    assert sum(map(len, read(large * 8))) == MAX_XORB_BYTES
    with pytest.raises(InvalidUpload, match="raw bytes"):
        read(large * 8 + pack_chunk(b"a"))


def test_decompression_stops_at_what_the_header_promises():
    bomb = lz4.frame.compress(bytes(256 << 20))
    data = pack_chunk(bytes(1000), LZ4, stored=len(bomb))[:8] + bomb
    tracemalloc.start()
    try:
        with pytest.raises(InvalidUpload):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()

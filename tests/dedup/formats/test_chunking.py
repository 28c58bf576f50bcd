"""Content-defined chunks: bounded in length, and stable under edits elsewhere."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.dedup.formats.cutting.content_chunks import (
    INLINE_BYTES,
    LEAST_BYTES,
    MOST_BYTES,
    split_opaque,
)
from weightvault.dedup.formats.cutting.gear import GEAR, cut_kernel, mark_kernel
from weightvault.dedup.model.files.segments import MAX_LITERAL_BYTES, Literal, Opaque

WORDS = [int(word) for word in GEAR]


def cut(data: bytes) -> list[int]:
    parts = split_opaque(io.BytesIO(data), 0, len(data))
    assert all(isinstance(part, Opaque) for part in parts)
    return [part.size for part in parts]


def pieces(data: bytes) -> set[bytes]:
    ends = np.cumsum(cut(data)).tolist()
    return {data[a:b] for a, b in zip([0, *ends], ends, strict=False)}


@pytest.mark.parametrize("size", [20_000, 1 << 20, 20 << 20])
def test_chunks_cover_and_keep_their_bounds(size: int):
    sizes = cut(np.random.default_rng(size).bytes(size))
    assert sum(sizes) == size
    assert all(LEAST_BYTES <= n <= MOST_BYTES for n in sizes[:-1])
    assert 0 < sizes[-1] <= MOST_BYTES


def test_the_average_is_what_it_is_meant_to_be():
    sizes = cut(np.random.default_rng(5).bytes(32 << 20))
    assert 50_000 < np.mean(sizes) < 90_000


@pytest.mark.parametrize("at", [0, 12_345, 9_000_000])
def test_an_insertion_changes_few_chunks(at: int):
    data = np.random.default_rng(1).bytes(10 << 20)
    before, after = pieces(data), pieces(data[:at] + b"inserted" + data[at:])
    assert len(after - before) <= 3


def test_buffers_leave_no_trace():
    """A cut depends on what lies before it, not on where a read happened to end."""
    data = np.random.default_rng(2).bytes(17 << 20)
    cuts = np.empty(len(data) // LEAST_BYTES + 1, np.int64)
    marks = np.zeros(len(data) // 64 + 1, np.uint64)
    rare, frequent = np.uint64(1 << 46), np.uint64(1 << 50)
    whole, bounds = np.frombuffer(data, np.uint8), (LEAST_BYTES, 65536, MOST_BYTES)
    mark_kernel(whole, GEAR, frequent, marks)
    found = cut_kernel(whole, True, GEAR, marks, *bounds, rare, cuts)
    assert np.cumsum(cut(data)).tolist() == cuts[:found].tolist()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 100, 1000, 5003])
def test_every_mark_is_where_the_hash_is_low(size: int):
    """Whichever of the quarters a byte lies in; with a limit that a quarter of them meets."""
    data = np.random.default_rng(size).bytes(size)
    marks = np.zeros(size // 64 + 1, np.uint64)
    mark_kernel(np.frombuffer(data, np.uint8), GEAR, np.uint64(1 << 62), marks)
    low = np.unpackbits(marks.view(np.uint8), bitorder="little")[63:size].tolist()
    assert low == [hash_bytes(data[i - 63 : i + 1]) < 1 << 62 for i in range(63, size)]


def hash_bytes(data: bytes) -> int:
    """The gear hash by its definition."""
    hashed = 0
    for byte in data:
        hashed = ((hashed << 1) + WORDS[byte]) % 2**64
    return hashed


def hash_by_hand(data: bytes) -> int:
    """Where the first cut lies, by the definition of the gear hash alone."""
    for end in range(LEAST_BYTES + 1, len(data) + 1):
        hashed = hash_bytes(data[end - 64 : end])
        bits = 18 if end <= 65536 else 14
        if hashed >> (64 - bits) == 0 or end == MOST_BYTES:
            return end
    return len(data)


@pytest.mark.parametrize("seed", [3, 4])
def test_the_first_cut_is_that_of_the_definition(seed: int):
    data = np.random.default_rng(seed).bytes(MOST_BYTES + 1000)
    assert cut(data)[0] == hash_by_hand(data)


@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"ab"])
def test_monotonous_bytes_are_cut_too(byte: bytes):
    sizes = cut(byte * (2 << 20))
    assert all(n <= MOST_BYTES for n in sizes)


@given(st.binary(max_size=INLINE_BYTES), st.integers(0, 9))
@settings(deadline=None)
def test_few_bytes_are_literals(data: bytes, before: int):
    file = io.BytesIO(bytes(before) + data)
    parts = split_opaque(file, before, before + len(data))
    assert all(isinstance(part, Literal) and part.size <= MAX_LITERAL_BYTES for part in parts)
    assert b"".join(part.data for part in parts if isinstance(part, Literal)) == data


def test_a_file_that_shrinks_meanwhile_does_not_hang():
    parts = split_opaque(io.BytesIO(bytes(1000)), 0, 1 << 20)
    assert sum(part.size for part in parts) == 1 << 20

"""Coding into memory of the caller: the same bytes, nothing beyond them, and no memory shared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_samples import DTYPES, sample_bytes

from weightvault.codecs.buffers import new_memory
from weightvault.codecs.errors import CorruptFrame
from weightvault.codecs.frame import frame_room, parse_header
from weightvault.codecs.pipeline import (
    LEVELS,
    decode_range,
    decode_tensor,
    encode_into,
    encode_tensor,
)
from weightvault.codecs.registry import CODECS
from weightvault.codecs.simd import paths

LENGTHS = st.one_of(
    st.integers(0, 300), st.sampled_from([1023, 4096, 65536, 70001, (1 << 21) + 1, (1 << 22) + 6])
)
KINDS = st.sampled_from(["weights", "random", "zeros", "few", "pruned", "runs"])
MARK = 0xA5
MARGIN = 40


class Room:
    """Memory of ``size`` bytes between two margins that nothing may touch, ``shift`` bytes into
    them: most elements are not aligned there.
    """

    def __init__(self, size: int, shift: int) -> None:
        self.memory = bytearray([MARK]) * (size + 2 * MARGIN)
        self.start, self.stop = MARGIN + shift, MARGIN + shift + size

    @property
    def view(self) -> memoryview:
        return memoryview(self.memory)[self.start : self.stop]

    def margins_are_clean(self) -> bool:
        beside = self.memory[: self.start] + self.memory[self.stop :]
        return set(beside) == {MARK}


@settings(deadline=None, max_examples=150)
@given(
    dtype=st.sampled_from(DTYPES),
    length=LENGTHS,
    kind=KINDS,
    level=st.sampled_from(LEVELS),
    path=st.sampled_from(paths.available_paths()),
    threads=st.sampled_from([1, 3]),
    shift=st.integers(0, 9),
)
def test_memory_of_the_caller_takes_the_same_bytes(
    dtype, length, kind, level, path, threads, shift
):
    paths.force_path(path)
    raw = sample_bytes(kind, dtype, length, length)
    frame = encode_tensor(raw, dtype, level=level)
    room = Room(frame_room(length), shift)
    coded = encode_into(room.view, raw, dtype, level=level, threads=threads)
    assert coded == frame == room.memory[room.start : room.start + len(frame)]
    assert room.margins_are_clean()
    room = Room(length, shift)
    assert decode_tensor(coded, out=room.view, threads=threads) == room.view == raw
    assert room.margins_are_clean()


@settings(deadline=None, max_examples=80)
@given(
    dtype=st.sampled_from(DTYPES),
    length=LENGTHS,
    kind=KINDS,
    codec=st.sampled_from([None, *CODECS]),
    path=st.sampled_from(paths.available_paths()),
    shift=st.integers(0, 9),
    grown=st.sampled_from([0, 0, 1000]),
)
def test_so_it_does_with_a_base(dtype, length, kind, codec, path, shift, grown):
    paths.force_path(path)
    base = sample_bytes(kind, dtype, length, 1)
    # A fine-tune: what is like its base, what equals it, and what stands alone.
    raw = bytearray(base)
    raw[: length // 3] = sample_bytes("weights", dtype, length // 3, 2)
    raw[:: max(1, length // 97)] = raw[:: max(1, length // 97)][::-1]
    raw += sample_bytes("weights", dtype, grown, 3)
    options = {"base": base, "codec": codec, "rows": [(0, 0, length)] if grown and length else None}
    if options["rows"] is None and grown:
        return
    frame = encode_tensor(raw, dtype, **options)
    room = Room(frame_room(len(raw)), shift)
    assert encode_into(room.view, raw, dtype, **options) == frame
    assert room.margins_are_clean()
    room = Room(len(raw), shift)
    assert decode_tensor(frame, base=base, out=room.view) == room.view == raw
    assert room.margins_are_clean()


@settings(deadline=None, max_examples=60)
@given(data=st.data(), kind=KINDS, with_base=st.booleans(), shift=st.integers(0, 3))
def test_a_range_goes_where_it_should(data, kind, with_base, shift):
    size = 4_500_001
    raw = sample_bytes(kind, "BF16", size, 3)
    base = sample_bytes("weights", "BF16", size, 3) if with_base else None
    frame = encode_tensor(raw, "BF16", base=base)
    edges = st.one_of(st.integers(0, size), st.sampled_from([0, 1 << 21, 1 << 22, size]))
    start, stop = sorted((data.draw(edges), data.draw(edges)))
    room = Room(stop - start, shift)
    assert decode_range(frame, start, stop, base=base, out=room.view) == raw[start:stop]
    assert room.view == raw[start:stop]
    assert room.margins_are_clean()


def test_memory_that_does_not_fit_is_refused_and_left_alone():
    raw = sample_bytes("weights", "BF16", 100_000, 1)
    base = bytearray(sample_bytes("weights", "BF16", 500, 2) + raw[500:])
    frame = bytearray(encode_tensor(raw, "BF16", base=base))
    assert parse_header(frame).base_digest
    kept = bytes(frame), bytes(base)
    for out, what in (
        (bytes(100_000), "read-only"),
        (bytearray(99_999), "99999 bytes"),
        (bytearray(100_001), "100001 bytes"),
        (np.zeros(200_000, np.uint8)[::2], "contiguous"),
        (memoryview(bytearray(200_000))[::2], "contiguous"),
        (base, "shares memory"),
    ):
        with pytest.raises(ValueError, match=what) as caught:
            decode_tensor(frame, base=base, out=out)
        assert type(caught.value) is ValueError
    with pytest.raises(ValueError, match="shares memory"):
        decode_range(frame, 0, 100, base=base, out=memoryview(frame)[-100:])
    with pytest.raises(ValueError, match="3 bytes; 4 are"):
        decode_range(frame, 0, 4, base=base, out=bytearray(3))
    assert (bytes(frame), bytes(base)) == kept


def test_memory_that_cannot_take_a_frame_is_refused():
    raw = bytearray(sample_bytes("weights", "BF16", 1000, 1))
    with pytest.raises(ValueError, match="needs 1096"):
        encode_into(bytearray(1095), raw, "BF16")
    with pytest.raises(ValueError, match="read-only"):
        encode_into(bytes(2000), raw, "BF16")
    whole = bytearray(5000)
    whole[:1000] = raw
    with pytest.raises(ValueError, match="shares memory"):
        encode_into(memoryview(whole)[999:], memoryview(whole)[:1000], "BF16")
    assert encode_into(memoryview(whole)[1000:], memoryview(whole)[:1000], "BF16")
    with pytest.raises(TypeError, match="levle"):
        encode_into(whole, b"abc", "U8", levle="max")


@pytest.mark.parametrize("dtype", ["BF16", "F16", "I32"])
def test_arrays_of_any_type_are_memory(dtype):
    raw = sample_bytes("weights", dtype, 4000, 1)
    out = np.zeros((10, 100), np.float32)
    decode_tensor(encode_tensor(raw, dtype), out=out)
    assert out.tobytes() == raw


def test_a_damaged_frame_is_told_with_memory_of_the_caller_too():
    raw = sample_bytes("weights", "BF16", 3_000_000, 1)
    frame = bytearray(encode_tensor(raw, "BF16"))
    for place in (50, len(frame) // 2, len(frame) - 1):
        broken = bytearray(frame)
        broken[place] ^= 1
        with pytest.raises(CorruptFrame):
            decode_tensor(broken, out=bytearray(len(raw)))
    other = encode_tensor(raw, "BF16", digest=bytes(32))
    with pytest.raises(CorruptFrame, match="digest"):
        decode_tensor(other, out=bytearray(len(raw)))


def test_what_was_decoded_before_is_not_needed():
    """Decoding twice into the same memory: every byte is written anew."""
    room = bytearray(5_000_000)
    for kind in ("weights", "random", "zeros", "few", "pruned", "runs"):
        for dtype in ("BF16", "F32", "U8"):
            raw = sample_bytes(kind, dtype, len(room), 1)
            room[:] = b"\xff" * len(room)
            decode_tensor(encode_tensor(raw, dtype), out=room)
            assert room == raw


@pytest.mark.parametrize("size", [0, 1, 100, (1 << 22) - 1, 1 << 22, (1 << 22) + 12_345])
def test_new_memory_is_as_long_as_it_should_be(size):
    memory = new_memory(size)
    memory[:] = 7
    assert (memory.size, memory.dtype) == (size, np.uint8)
    assert memory.flags.c_contiguous
    assert memory.flags.writeable

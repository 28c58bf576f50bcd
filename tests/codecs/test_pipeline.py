"""Round trips and misuse, through the public functions."""

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_samples import DTYPES, sample_bytes

from weightvault.codecs.errors import WrongBase
from weightvault.codecs.frame import frame_room, parse_header
from weightvault.codecs.pipeline import (
    LEVELS,
    decode_range,
    decode_tensor,
    encode_into,
    encode_tensor,
)
from weightvault.codecs.registry import CODECS

LENGTHS = st.one_of(
    st.integers(0, 300), st.sampled_from([1023, 1024, 4096, 8191, 65536, 70001, (1 << 20) + 5])
)
KINDS = st.sampled_from(["weights", "random", "zeros", "few", "pruned", "runs"])


@settings(deadline=None, max_examples=120)
@given(
    dtype=st.sampled_from(DTYPES),
    length=LENGTHS,
    kind=KINDS,
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 1 << 16),
)
def test_bytes_come_back_and_never_grow_beyond_the_bound(dtype, length, kind, level, seed):
    raw = sample_bytes(kind, dtype, length, seed)
    frame = encode_tensor(raw, dtype, level=level)
    assert bytes(decode_tensor(frame)) == raw
    assert len(frame) <= len(raw) + 64
    header = parse_header(frame)
    assert (header.dtype, header.raw_bytes, header.frame_bytes) == (dtype, length, len(frame))
    assert header.digest == blake3(raw).digest()


@settings(deadline=None, max_examples=80)
@given(
    dtype=st.sampled_from(DTYPES), length=LENGTHS, kind=KINDS, other=KINDS, seed=st.integers(0, 99)
)
def test_deltas_come_back(dtype, length, kind, other, seed):
    raw = sample_bytes(kind, dtype, length, seed)
    base = sample_bytes(other, dtype, length, seed // 2)
    frame = encode_tensor(raw, dtype, base=base)
    assert bytes(decode_tensor(frame, base=base)) == raw
    assert len(frame) <= len(raw) + 64


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", ["weights", "random", "zeros"])
def test_a_forced_codec_keeps_the_bytes(codec, kind):
    raw = sample_bytes(kind, "BF16", 100_001, 1)
    base = sample_bytes("weights", "BF16", 100_001, 1)
    frame = encode_tensor(raw, "BF16", base=base, codec=codec)
    assert bytes(decode_tensor(frame, base=base)) == raw
    assert len(frame) <= len(raw) + 64


@settings(deadline=None, max_examples=60)
@given(data=st.data(), kind=KINDS, with_base=st.booleans())
def test_a_range_is_the_slice_of_the_whole(data, kind, with_base):
    raw = sample_bytes(kind, "BF16", 2_500_001, 3)
    base = sample_bytes("weights", "BF16", 2_500_001, 3) if with_base else None
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, min(len(raw), start + 1_500_000)))
    frame = encode_tensor(raw, "BF16", base=base)
    assert bytes(decode_range(frame, start, stop, base=base)) == raw[start:stop]


def test_the_bytes_do_not_depend_on_the_threads():
    raw = sample_bytes("weights", "F32", 5_000_000, 3)
    assert encode_tensor(raw, "F32", threads=1) == encode_tensor(raw, "F32", threads=3)


def test_a_known_digest_is_taken_as_given():
    raw = sample_bytes("weights", "F32", 1000, 3)
    frame = encode_tensor(raw, "F32", digest=bytes(32))
    assert parse_header(frame).digest == bytes(32)
    with pytest.raises(ValueError, match="digest"):
        decode_tensor(frame)
    assert bytes(decode_tensor(frame, verify=False)) == raw


def test_any_contiguous_buffer_goes_in():
    array = np.arange(1000, dtype=np.int32).reshape(10, 100)
    frame = encode_tensor(array, "I32")
    assert frame == encode_tensor(memoryview(array.tobytes()), "I32")
    assert bytes(decode_tensor(bytearray(frame))) == array.tobytes()
    with pytest.raises(ValueError, match="contiguous"):
        encode_tensor(array[:, ::2], "I32")


def test_misuse_is_a_plain_value_error():
    for arguments in ({"dtype": "F17"}, {"level": "best"}, {"codec": "lzma"}, {"threads": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))) as caught:
            encode_tensor(b"abcd", **{"dtype": "U8", **arguments})
        assert type(caught.value) is ValueError
    with pytest.raises(ValueError, match="base"):
        encode_tensor(b"abcd", "U8", base=b"abc")
    with pytest.raises(ValueError, match="range"):
        decode_range(encode_tensor(b"abcd", "U8"), 3, 5)


def test_the_wrong_base_is_told():
    raw, base = sample_bytes("weights", "BF16", 9000, 1), sample_bytes("weights", "BF16", 9000, 1)
    frame = encode_tensor(raw, "BF16", base=base)
    assert parse_header(frame).base_digest == blake3(base).digest()
    for wrong in (None, base[:-1], bytes(9000)):
        with pytest.raises(WrongBase):
            decode_tensor(frame, base=wrong)
        with pytest.raises(WrongBase):
            decode_range(frame, 0, 10, base=wrong)


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_a_frame_says_how_deep_it_is_and_is_the_same_otherwise(depth: int):
    base = sample_bytes("weights", "BF16", 9_001, 3)
    near = bytearray(base)
    near[100] ^= 1
    frame = encode_tensor(near, "BF16", base=base, depth=depth)
    header = parse_header(frame)
    assert (header.depth, header.level) == (depth, depth)
    assert bytes(decode_tensor(frame, base=base)) == bytes(near)
    room = bytearray(frame_room(len(near)))
    assert bytes(encode_into(room, near, "BF16", base=base, depth=depth)) == frame
    plain = encode_tensor(near, "BF16", base=base)
    assert frame[8 : header.body_offset - 8] == plain[8 : header.body_offset - 8]
    assert frame[header.body_offset :] == plain[header.body_offset :]


@pytest.mark.parametrize("depth", [0, 9])
def test_depths_out_of_range_are_refused(depth: int):
    base = sample_bytes("weights", "BF16", 100, 3)
    with pytest.raises(ValueError, match="depth"):
        encode_tensor(base, "BF16", base=base, depth=depth)


def test_what_does_without_its_base_has_no_depth():
    raw, base = sample_bytes("random", "BF16", 9_001, 3), sample_bytes("random", "BF16", 9_001, 4)
    assert parse_header(encode_tensor(raw, "BF16", base=base, depth=3)).level == 0

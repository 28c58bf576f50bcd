"""Altered frames with a base: a typed error, or bytes of the promised length, never anything
else.
"""

import pytest
from delta_samples import sample_pair
from frame_surgery import reseal, stored_blocks, with_blocks, with_field
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.codecs.errors import CorruptFrame, FrameError, UnsupportedFrame
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import decode_tensor, encode_tensor
from weightvault.codecs.simd import paths

_KINDS = ("tuned", "rare", "moved", "random")
_DTYPES = ("BF16", "F16", "F32", "F64", "F8_E4M3", "I16")


def _frames() -> list[tuple[bytes, bytes]]:
    """Returns frames with their bases, of every layout that needs one."""
    frames = []
    for dtype in _DTYPES:
        for codec in ("difference", "sparse", "xor-context"):
            for kind in _KINDS:
                raw, base = sample_pair(kind, dtype, 6_001, 2)
                frame = encode_tensor(raw, dtype, base=base, codec=codec, columns=50)
                frames.append((frame, base))
        for codec in ("difference", "xor-context"):
            raw, base = sample_pair("tuned", dtype, 6_001, 3)
            options = {"codec": codec, "level": "fast", "columns": 50}
            frames.append((encode_tensor(raw, dtype, base=base, **options), base))
    raw, base = sample_pair("tuned", "BF16", 8_000, 2)
    longer = raw[:3000] + bytes(range(200)) + raw[3000:]
    rows = [(0, 0, 3000), (3200, 3000, 5000)]
    frames.append((encode_tensor(longer, "BF16", base=base, rows=rows), base))
    return [(frame, base) for frame, base in frames if parse_header(frame).base_digest]


FRAMES = _frames()


def test_frames_of_every_layout_are_altered():
    layouts = {block[0] & 0x7F for frame, _ in FRAMES for block in stored_blocks(frame)}
    assert layouts >= {9, 10, 11}


def test_no_prefix_and_no_suffix_decodes():
    for frame, base in FRAMES[::5]:
        for end in [*range(0, min(len(frame), 400), 3), *range(400, len(frame), 97)]:
            with pytest.raises(FrameError):
                decode_tensor(frame[:end], base=base)
        with pytest.raises(CorruptFrame):
            decode_tensor(frame + b"\0", base=base)


def test_no_flipped_byte_goes_unnoticed():
    for frame, base in FRAMES[::7]:
        for at in [*range(min(len(frame), 300)), *range(300, len(frame), 89)]:
            changed = frame[:at] + bytes([frame[at] ^ 0x41]) + frame[at + 1 :]
            with pytest.raises(FrameError):
                decode_tensor(changed, base=base)


@settings(deadline=None, max_examples=600)
@given(data=st.data(), path=st.sampled_from(paths.available_paths()))
def test_resealed_blocks_decode_to_their_length_or_raise(data, path):
    frame, base = data.draw(st.sampled_from(FRAMES))
    block = bytearray(stored_blocks(frame)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        early = st.integers(0, min(60, len(block) - 1))
        at = data.draw(st.one_of(early, st.integers(0, len(block) - 1)))
        block[at] = data.draw(st.integers(0, 255))
    del block[data.draw(st.integers(0, len(block))) if data.draw(st.booleans()) else len(block) :]
    paths.force_path(path)
    try:
        raw = decode_tensor(with_blocks(frame, [bytes(block)]), base=base, verify=False)
    except FrameError:
        return
    assert len(raw) == parse_header(frame).raw_bytes


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_resealed_headers_decode_or_raise(data):
    frame, base = data.draw(st.sampled_from(FRAMES))
    changed = bytearray(frame)
    header_bytes = parse_header(frame).body_offset - 8
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    try:
        sealed = reseal(bytes(changed), header_bytes)
        raw = decode_tensor(sealed, base=base, max_raw_bytes=1 << 24, verify=False)
    except FrameError:
        return
    assert len(raw) <= 1 << 24


# Places in a stored block of differences: its layout byte, then its head.
_LENGTH, _PHASE, _FAR, _STORED = 8, 12, 16, 20


@pytest.mark.parametrize("at", [_LENGTH, _PHASE, _FAR, _STORED])
@pytest.mark.parametrize("value", [0, 1, 1 << 16, 1 << 31, (1 << 32) - 1])
def test_lying_lengths_in_a_block_allocate_nothing(at, value):
    frame, base = FRAMES[0]
    (block,) = stored_blocks(frame)
    assert block[0] == 10
    changed = block[:at] + value.to_bytes(4, "little") + block[at + 4 :]
    if changed != block:
        with pytest.raises(FrameError):
            decode_tensor(with_blocks(frame, [changed]), base=base)


def test_a_row_map_goes_with_a_base_and_with_its_lengths():
    frame, base = FRAMES[-1]
    assert parse_header(frame).rows
    runs_at = 80
    for value in (0, 1, 3, 1 << 31):
        with pytest.raises(FrameError):
            decode_tensor(with_field(frame, runs_at, value, 4), base=base)
    for at in (runs_at + 4, runs_at + 12, runs_at + 20):
        for value in (1 << 40, (1 << 64) - 1):
            with pytest.raises(FrameError):
                decode_tensor(with_field(frame, at, value, 8), base=base)
    with pytest.raises(FrameError):
        parse_header(with_field(frame, 7, 2, 1))
    with pytest.raises(FrameError):
        parse_header(with_field(frame, 7, 7, 1))
    with pytest.raises(FrameError):
        parse_header(with_field(frame, 7, 15, 1))
    with pytest.raises(UnsupportedFrame):
        parse_header(with_field(frame, 7, 0x43, 1))


def test_a_copy_has_no_body_and_leaves_nothing_out():
    raw, base = sample_pair("same", "BF16", 4000, 1)
    frame = encode_tensor(raw, "BF16", base=base)
    with pytest.raises(CorruptFrame):
        decode_tensor(frame + b"x", base=base)
    mapped = encode_tensor(raw[:2000], "BF16", base=base, rows=[(0, 0, 2000)])
    with pytest.raises(CorruptFrame):
        decode_tensor(with_field(mapped, 8, 2002, 8), base=base)

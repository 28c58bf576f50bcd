"""Parts of tensors from parts of their frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_samples import sample_bytes

from weightvault.codecs.errors import CorruptFrame, WrongBase
from weightvault.codecs.frame import FrameHeader, parse_header
from weightvault.codecs.pipeline import encode_tensor
from weightvault.codecs.ranges import (
    PIECE_BYTES,
    decode_part,
    find_base_extent,
    find_extent,
    index_raw,
)

BLOCK = 2 << 20
SIZE = 5 * BLOCK + 77
BASE = sample_bytes("weights", "BF16", SIZE, 1)
TUNE = (np.frombuffer(BASE, np.uint8) ^ (np.arange(SIZE) % 97 == 0)).tobytes()
ROWS = [(1000, 500, 3 * BLOCK), (4 * BLOCK, 3 * BLOCK + 600, BLOCK)]
SHORT_BASE = BASE[: 4 * BLOCK + 600]
MOVED = bytearray(sample_bytes("weights", "BF16", SIZE, 3))
for to, start, count in ROWS:
    MOVED[to : to + count] = BASE[start : start + count]
MOVED = bytes(MOVED)
TEXT = " ".join(f"word{n * 7919 % 4001}" for n in range(3000)).encode()
OTHER_TEXT = TEXT[:-9] + b"{another}"

# Name: the frame, the raw bytes, the base.
SAMPLES: dict[str, tuple[bytes, bytes, bytes | None]] = {
    "planes": (encode_tensor(BASE, "BF16"), BASE, None),
    "zstd": (encode_tensor(BASE, "BF16", codec="zstd"), BASE, None),
    "raw": (encode_tensor(BASE, "BF16", codec="raw"), BASE, None),
    "constant": (encode_tensor(b"ab" * BLOCK, "BF16"), b"ab" * BLOCK, None),
    "delta": (encode_tensor(TUNE, "BF16", base=BASE), TUNE, BASE),
    "bitx": (encode_tensor(TUNE, "BF16", base=BASE, codec="bitx"), TUNE, BASE),
    "identical": (encode_tensor(BASE, "BF16", base=BASE), BASE, BASE),
    "rows": (encode_tensor(MOVED, "BF16", base=SHORT_BASE, rows=ROWS), MOVED, SHORT_BASE),
    "text": (encode_tensor(TEXT, "U8"), TEXT, None),
    "patch": (encode_tensor(TEXT, "U8", base=OTHER_TEXT), TEXT, OTHER_TEXT),
}


def header_of(frame: bytes) -> FrameHeader:
    """The header as who reads parts has it, of a raw frame with a table."""
    header = parse_header(frame[:4096], len(frame))
    assert header == parse_header(frame)
    return index_raw(header, frame[header.body_offset :]) if header.codec == "raw" else header


def read_part(frame: bytes, base: bytes | None, start: int, stop: int) -> bytes:
    """Decodes with noise wherever a part needs neither frame nor base."""
    header = header_of(frame)
    first, last = find_extent(header, start, stop)
    noisy = None
    if base is not None:
        needed = find_base_extent(header, start, stop) or (0, len(base))
        noisy = np.full(len(base), 0xA5, np.uint8)
        noisy[slice(*needed)] = np.frombuffer(base, np.uint8)[slice(*needed)]
    return bytes(decode_part(header, frame[first:last], start, stop, base=noisy))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_what_they_are_called(name: str):
    codecs = {"delta": ("difference", "sparse"), "rows": ("difference", "sparse")}
    codecs |= {"text": ("zstd-dictionary", "zstd"), "patch": ("zstd-patch",)}
    assert parse_header(SAMPLES[name][0]).codec in codecs.get(name, (name,))
    assert bool(parse_header(SAMPLES[name][0]).rows) is (name == "rows")


@pytest.mark.parametrize("name", SAMPLES)
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_part_is_what_stands_there(name: str, data: st.DataObject):
    frame, raw, base = SAMPLES[name]
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, min(len(raw), start + 3 * BLOCK)))
    assert read_part(frame, base, start, stop) == raw[start:stop]


@pytest.mark.parametrize("name", ["planes", "zstd", "delta", "bitx", "rows"])
def test_a_part_takes_the_blocks_it_lies_in(name: str):
    header = header_of(SAMPLES[name][0])
    blocks = list(header.spans())
    inside = find_extent(header, BLOCK + 5, 2 * BLOCK - 5)
    assert inside == (blocks[1].offset, blocks[1].offset + blocks[1].stored_bytes)
    across = find_extent(header, BLOCK - 1, BLOCK + 1)
    assert across == (blocks[0].offset, blocks[1].offset + blocks[1].stored_bytes)


def test_a_part_takes_of_the_base_what_its_blocks_need():
    assert find_base_extent(header_of(SAMPLES["delta"][0]), BLOCK + 5, BLOCK + 6) == (
        BLOCK,
        2 * BLOCK,
    )
    identical = header_of(SAMPLES["identical"][0])
    assert find_base_extent(identical, BLOCK + 5, BLOCK + 6) == (BLOCK + 5, BLOCK + 6)
    moved = header_of(SAMPLES["rows"][0])
    assert find_base_extent(moved, 0, 10) == (500, BLOCK - 500)
    assert find_base_extent(moved, 4 * BLOCK, 4 * BLOCK + 1) == (
        3 * BLOCK + 600,
        4 * BLOCK + 600,
    )
    assert find_base_extent(header_of(SAMPLES["patch"][0]), 0, 10) is None


def test_a_raw_frame_is_read_in_pieces_once_it_was_read():
    frame = SAMPLES["raw"][0]
    header = header_of(frame)
    at = header.body_offset
    assert find_extent(parse_header(frame), 5, 6) == (at, len(frame))
    assert find_extent(header, 5, 6) == (at, at + PIECE_BYTES)
    assert find_extent(header, SIZE - 1, SIZE)[1] == len(frame)


def test_a_raw_frame_that_is_damaged_gets_no_table():
    frame = bytearray(SAMPLES["raw"][0])
    frame[-1] ^= 1
    header = parse_header(frame)
    with pytest.raises(CorruptFrame, match="checksum"):
        index_raw(header, frame[header.body_offset :])


@pytest.mark.parametrize("name", ["planes", "raw", "delta", "constant"])
def test_damage_within_a_part_is_found(name: str):
    frame, raw, base = SAMPLES[name]
    header = header_of(frame)
    stop = min(len(raw), BLOCK)
    first, last = find_extent(header, 0, stop)
    part = bytearray(frame[first:last])
    part[len(part) // 2] ^= 1
    with pytest.raises(CorruptFrame):
        decode_part(header, part, 0, stop, base=base)
    with pytest.raises(CorruptFrame):
        decode_part(header, frame[first : last - 1], 0, stop, base=base)


def test_a_base_that_does_not_fit_is_refused():
    header = header_of(SAMPLES["delta"][0])
    first, last = find_extent(header, 0, 1)
    for base in (None, BASE[:-1]):
        with pytest.raises(WrongBase):
            decode_part(header, SAMPLES["delta"][0][first:last], 0, 1, base=base)


def test_a_front_without_all_of_the_header_is_refused():
    frame = SAMPLES["planes"][0]
    with pytest.raises(CorruptFrame, match="ends inside"):
        parse_header(frame[: parse_header(frame).body_offset - 1], len(frame))

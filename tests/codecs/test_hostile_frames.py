"""Every prefix, every flipped byte, every lying length: a typed error, never anything else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from frame_surgery import reseal, stored_blocks, with_blocks, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from quantised_samples import make_groups
from tensor_samples import sample_bytes

from weightvault.codecs.errors import CorruptFrame, FrameError, UnsupportedFrame
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import decode_range, decode_tensor, encode_tensor

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.frame"))
STANDALONE = [path for path in GOLDEN if parse_header(path.read_bytes()).base_digest is None]
BASE = sample_bytes("weights", "BF16", 4_000, 1)


@pytest.mark.parametrize("path", STANDALONE, ids=lambda path: path.name)
def test_no_prefix_and_no_suffix_decodes(path):
    frame = path.read_bytes()
    for end in [*range(min(len(frame), 700)), *range(700, len(frame), 61)]:
        with pytest.raises(CorruptFrame):
            decode_tensor(frame[:end])
    with pytest.raises(CorruptFrame):
        decode_tensor(frame + b"\0")


@pytest.mark.parametrize("path", STANDALONE, ids=lambda path: path.name)
def test_no_flipped_byte_goes_unnoticed(path):
    frame = bytearray(path.read_bytes())
    for at in [*range(min(len(frame), 700)), *range(700, len(frame), 61)]:
        frame[at] ^= 0x41
        with pytest.raises(FrameError):
            decode_tensor(bytes(frame))
        frame[at] ^= 0x41


@pytest.mark.parametrize("value", [0, 1, 255, 1 << 31, (1 << 63) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("path", STANDALONE, ids=lambda path: path.name)
def test_a_lying_length_is_told_before_anything_is_allocated(path, value):
    frame = path.read_bytes()
    if parse_header(frame).raw_bytes == value or "constant" in path.name:
        pytest.skip("not a lie")
    with pytest.raises(CorruptFrame):
        decode_tensor(with_field(frame, 8, value, 8), max_raw_bytes=1 << 20)


def test_a_constant_frame_decodes_to_no_more_than_is_allowed():
    frame = with_field(encode_tensor(bytes(4096), "U8"), 8, 1 << 62, 8)
    assert parse_header(frame).raw_bytes == 1 << 62
    with pytest.raises(CorruptFrame, match="allowed"):
        decode_tensor(frame, max_raw_bytes=1 << 20)
    assert bytes(decode_range(frame, 1 << 61, (1 << 61) + 5)) == bytes(5)


@pytest.mark.parametrize(("offset", "size"), [(4, 1), (5, 1), (6, 1), (7, 1)])
def test_numbers_from_a_newer_writer_are_called_unsupported(offset, size):
    frame = encode_tensor(BASE, "BF16")
    with pytest.raises(UnsupportedFrame):
        parse_header(with_field(frame, offset, 0x7E, size))


def test_a_frame_without_a_base_has_no_chain():
    with pytest.raises(CorruptFrame, match="without a base"):
        parse_header(with_field(encode_tensor(BASE, "BF16"), 7, 1 << 3, 1))


def test_stored_lengths_of_blocks_are_checked():
    frame = encode_tensor(BASE, "BF16")
    table_at = parse_header(frame).body_offset - 16
    for value in (0, 1, 1 << 31, (1 << 32) - 1):
        with pytest.raises(CorruptFrame):
            decode_tensor(with_field(frame, table_at, value, 4))
    for value in (0, 1, 100, (1 << 24) + 1, (1 << 32) - 1):
        with pytest.raises(CorruptFrame):
            decode_tensor(with_field(frame, table_at - 4, value, 4))


def test_a_block_cannot_ask_for_a_base_that_the_frame_does_not_name():
    frame = encode_tensor(BASE, "BF16")
    (block,) = stored_blocks(frame)
    with pytest.raises(CorruptFrame):
        decode_tensor(with_blocks(frame, [bytes([block[0] | 0x80]) + block[1:]]))


def _frames() -> list[bytes]:
    kinds = ("weights", "few", "pruned", "runs")
    dtypes = ("BF16", "F32", "I16")
    frames = [encode_tensor(sample_bytes(k, d, 9_001, 3), d) for k in kinds for d in dtypes]
    for dtype in ("BF16", "F16", "F32"):
        raw = sample_bytes("weights", dtype, 9_001, 4)
        frames.append(encode_tensor(raw, dtype, level="fast"))
    frames.append(encode_tensor(make_groups("Q4_K"), "Q4_K", level="fast"))
    frames += [path.read_bytes() for path in STANDALONE if "by-" in path.name]
    return [frame for frame in frames if parse_header(frame).block_bytes]


FRAMES = _frames()


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_resealed_blocks_decode_to_their_length_or_raise(data):
    frame = data.draw(st.sampled_from(FRAMES))
    block = bytearray(stored_blocks(frame)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(
            st.one_of(st.integers(0, min(400, len(block) - 1)), st.integers(0, len(block) - 1))
        )
        block[at] = data.draw(st.integers(0, 255))
    del block[data.draw(st.integers(0, len(block))) if data.draw(st.booleans()) else len(block) :]
    try:
        raw = decode_tensor(with_blocks(frame, [bytes(block)]), verify=False)
    except FrameError:
        return
    assert len(raw) == parse_header(frame).raw_bytes


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_resealed_headers_parse_or_raise(data):
    frame = bytearray(data.draw(st.sampled_from(FRAMES)))
    header_bytes = parse_header(bytes(frame)).body_offset - 8
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    try:
        raw = decode_tensor(reseal(bytes(frame), header_bytes), max_raw_bytes=1 << 24, verify=False)
    except FrameError:
        return
    assert len(raw) <= 1 << 24


@pytest.mark.timeout(240)
def test_kernels_stay_in_bounds(tmp_path):
    """Runs the round trips and the altered streams once more with every index checked."""
    here = Path(__file__).parent
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    chosen = "resealed or same_streams or bytes_come_back"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen]
    files = ["test_hostile_frames.py", "test_paths.py", "test_pipeline.py"]
    done = subprocess.run(
        [*command, *(str(here / name) for name in files)],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]

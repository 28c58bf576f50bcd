"""Quantised tensors: every bit of a group is in one field, and every group comes back."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from quantised_samples import GOLDEN, make_groups

from weightvault.codecs.blocks.blocks import decode_block
from weightvault.codecs.dtypes import QUANTISED
from weightvault.codecs.errors import FrameError
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import decode_range, decode_tensor, encode_tensor
from weightvault.codecs.quantised.fields import FIELDS, gather_kernel, scatter_kernel
from weightvault.codecs.quantised.groups import find_layout, list_places
from weightvault.dedup.model.files.segments import GROUPS

NAMES = sorted(QUANTISED)
# Those that the reference implementation in Python can make from floats.
MADE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "TQ1_0", "TQ2_0")


def weights(count: int, seed: int = 1) -> np.ndarray:
    """Bell-shaped float32 in rows of different spread."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 0.05, (count // 256, 256))
    return (rows * rng.uniform(0.5, 2, (len(rows), 1))).astype(np.float32)


def quantise(name: str, count: int = 1 << 17) -> bytes:
    return quants.quantize(weights(count), GGMLQuantizationType[name]).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_of_ggml(name: str):
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    assert GROUPS[name] == (elements, size)
    assert QUANTISED[name].group_bytes == size
    assert QUANTISED[name].id == 64 + GGMLQuantizationType[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_is_in_exactly_one_field(name: str):
    covered = np.zeros((QUANTISED[name].group_bytes, 8), int)
    for plane in find_layout(name).planes:
        for symbol in plane:
            assert sum(width for _, _, width in symbol) <= 8
            for byte, shift, width in symbol:
                covered[byte, shift : shift + width] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_fields_put_together_are_the_groups(name: str):
    groups = np.random.default_rng(0).integers(0, 256, (70, QUANTISED[name].group_bytes), np.uint8)
    back = np.zeros_like(groups)
    for number in range(len(find_layout(name).planes)):
        places = list_places(name, number)
        symbols = np.empty((len(groups), len(places)), np.uint8)
        gather_kernel(groups, places, symbols)
        scatter_kernel(symbols, places, back)
    assert (back == groups).all()


def unpack_by_hand(name: str, group: np.ndarray) -> list[int]:
    """The quants of one group in the order of its elements, as ggml's dequantising loops go."""
    if name == "Q6_K":
        low, high = group[:128].reshape(2, 2, 32), group[128:192].reshape(2, 32)
        return [
            (int(low[n, run % 2, i]) >> 4 * (run // 2)) % 16 + (int(high[n, i]) >> 2 * run) % 4 * 16
            for n in range(2)
            for run in range(4)
            for i in range(32)
        ]
    if name == "Q5_K":
        low, high = group[48:].reshape(4, 32), group[16:48]
        return [
            (int(low[j // 2, i]) >> 4 * (j % 2)) % 16 + (int(high[i]) >> j) % 2 * 16
            for j in range(8)
            for i in range(32)
        ]
    low, high = group[32:96].reshape(2, 32), group[:32]
    return [
        (int(low[n, i]) >> 2 * j) % 4 + (int(high[i]) >> (4 * n + j)) % 2 * 4
        for n in range(2)
        for j in range(4)
        for i in range(32)
    ]


@pytest.mark.parametrize("name", ["Q3_K", "Q5_K", "Q6_K"])
def test_quants_come_in_the_order_of_their_elements(name: str):
    group = np.random.default_rng(5).integers(0, 256, QUANTISED[name].group_bytes, np.uint8)
    places = list_places(name, len(find_layout(name).planes) - 1)
    symbols = np.empty((1, 256), np.uint8)
    gather_kernel(group[None], places, symbols)
    assert symbols[0].tolist() == unpack_by_hand(name, group)


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize("name", MADE)
def test_real_groups_come_back_smaller(name: str, level: str):
    raw = quantise(name)
    frame = encode_tensor(raw, name, level=level)
    assert bytes(decode_tensor(frame)) == raw
    # As plain bytes, each byte coded alone, they take more.
    assert len(frame) < min(len(encode_tensor(raw, "U8", level=level)), len(raw))


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_any_dtype_are_coded(name: str):
    raw = make_groups(name, 3000)
    frame = encode_tensor(raw, name)
    assert bytes(decode_tensor(frame)) == raw
    header = parse_header(frame)
    assert frame[header.body_offset] == FIELDS
    assert len(frame) < 0.95 * len(raw)


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_a_golden_frame_decodes(path: Path):
    """What this version wrote must stay readable; the digest in the header is the proof."""
    name = path.stem.removeprefix("v1-").removesuffix("-prefix").upper()
    frame = path.read_bytes()
    assert frame[parse_header(frame).body_offset] == FIELDS
    raw = bytes(decode_tensor(frame))
    assert raw.endswith(b"tail")
    assert len(raw) % QUANTISED[name].group_bytes == 4


@given(
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(["random", "zeros", "ones", "few"]),
    length=st.integers(0, 40_000),
    level=st.sampled_from(["fast", "default", "max"]),
)
@settings(deadline=None, max_examples=120)
def test_any_bytes_come_back(name: str, kind: str, length: int, level: str):
    rng = np.random.default_rng(length)
    made = {
        "random": lambda: rng.bytes(length),
        "zeros": lambda: bytes(length),
        "ones": lambda: b"\xff" * length,
        "few": lambda: rng.integers(0, 3, length, np.uint8).tobytes(),
    }
    raw = made[kind]()
    frame = encode_tensor(raw, name, level=level)
    assert len(frame) <= len(raw) + 64
    assert bytes(decode_tensor(frame)) == raw


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q8_0"])
def test_a_range_across_blocks(name: str):
    size = QUANTISED[name].group_bytes
    groups = np.random.default_rng(2).integers(0, 40, (3 << 20) // size, np.uint8)
    raw = np.repeat(groups, size).tobytes() + b"tail"
    frame = encode_tensor(raw, name)
    for start, stop in ((0, 5), (1 << 20, (1 << 20) + 999), (len(raw) - 9, len(raw))):
        assert bytes(decode_range(frame, start, stop)) == raw[start:stop]


def test_the_frame_does_not_depend_on_threads():
    raw = quantise("Q8_0", 1 << 21)
    assert encode_tensor(raw, "Q8_0", threads=1) == encode_tensor(raw, "Q8_0", threads=2)


@given(position=st.integers(0, 1 << 16), flip=st.integers(1, 255))
@settings(deadline=None, max_examples=150)
def test_a_flipped_byte_is_a_typed_error(position: int, flip: int):
    frame = bytearray(SMALL)
    frame[position % len(frame)] ^= flip
    with pytest.raises(FrameError):
        decode_tensor(bytes(frame))


def test_every_truncation_is_a_typed_error():
    for length in range(0, len(SMALL), 7):
        with pytest.raises(FrameError):
            decode_tensor(SMALL[:length])


@given(
    name=st.sampled_from(NAMES),
    body=st.binary(max_size=300),
    step=st.integers(0, 9),
    groups=st.integers(0, 3),
)
@settings(deadline=None, max_examples=300)
def test_any_stored_block_decodes_or_is_refused(name: str, body: bytes, step: int, groups: int):
    """Behind valid checksums, too, nothing that a stranger wrote is believed."""
    out = np.empty(groups * QUANTISED[name].group_bytes + 1, np.uint8)
    stored = np.frombuffer(bytes([FIELDS, step]) + body, np.uint8)
    with contextlib.suppress(FrameError):
        decode_block(stored, QUANTISED[name], None, out)


def test_a_group_of_infinite_scales_comes_back():
    raw = np.full(210, 0x7F, np.uint8).tobytes() * 200
    assert bytes(decode_tensor(encode_tensor(raw + b"x", "Q6_K"))) == raw + b"x"


SMALL = encode_tensor(quantise("Q8_0", 1 << 14), "Q8_0")

"""Small integers times a scale, kept in wide floats: what they take, that they come back, and what
is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import zstandard
from frame_surgery import stored_blocks, with_blocks, with_field
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.codecs.errors import CorruptFrame, FrameError
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import decode_range, decode_tensor, encode_tensor

ROWS, COLUMNS = 192, 384
KINDS = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}


def quantise(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Integers, and the scale of each, a BF16, (ROWS, COLUMNS) each."""
    rng = np.random.default_rng(3)
    weights = rng.standard_t(6, (ROWS, COLUMNS)) * rng.uniform(0.01, 0.03, (ROWS, 1))
    groups = weights.reshape(-1, 128 if kind == "int4" else COLUMNS)
    largest = np.abs(groups).max(axis=1, keepdims=True)
    scale = {
        "ternary": np.abs(groups).mean(axis=1, keepdims=True),
        "int4": largest / 7,
        "int8": largest / 127,
    }[kind]
    scale = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    most = {"ternary": 1, "int4": 7, "int8": 127}[kind]
    integers = np.clip(np.round(groups / scale), -most, most)
    return integers, np.broadcast_to(scale, groups.shape)


def entropy_bytes(integers: np.ndarray) -> float:
    counts = np.unique(integers, return_counts=True)[1]
    return float(-(counts * np.log2(counts / integers.size)).sum() / 8)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("kind", ["ternary", "int4", "int8"])
def test_they_take_the_entropy_of_the_integers(dtype: str, kind: str):
    integers, scales = quantise(kind)
    # Zeros of one sign: their signs are no part of the integers.
    raw = ((integers + 0.0).astype(np.float32) * scales).astype(KINDS[dtype]).tobytes()
    frame = encode_tensor(raw, dtype, columns=COLUMNS)
    assert parse_header(frame).codec == "multiples"
    assert len(frame) <= 1.05 * entropy_bytes(integers)
    assert len(frame) <= min(len(zstandard.compress(raw, level)) for level in (3, 9, 19))
    assert bytes(decode_tensor(frame)) == raw
    assert bytes(decode_range(frame, 1001, 70_001)) == raw[1001:70_001]


@pytest.mark.parametrize("first", [0, 1, 100, 383, 1000])
def test_chunks_may_begin_inside_a_row(first: int):
    integers, scales = quantise("int8")
    values = (integers * scales).astype(ml_dtypes.bfloat16).reshape(-1)[first:]
    frame = encode_tensor(values.tobytes(), "BF16", columns=COLUMNS)
    assert parse_header(frame).codec == "multiples"
    assert len(frame) <= 1.05 * entropy_bytes(integers)
    assert bytes(decode_tensor(frame)) == values.tobytes()


@pytest.mark.parametrize("kind", ["ternary", "int4", "int8"])
def test_groups_are_found_where_rows_are_not_known(kind: str):
    integers, scales = quantise(kind)
    raw = ((integers + 0.0) * scales).astype(ml_dtypes.bfloat16).tobytes()
    frame = encode_tensor(raw, "BF16")
    assert len(frame) <= 1.08 * entropy_bytes(integers)
    assert bytes(decode_tensor(frame)) == raw


def test_blocks_decode_alone():
    rng = np.random.default_rng(4)
    integers = rng.integers(-7, 8, (3600, 300)).astype(np.float32)
    raw = (integers * rng.uniform(0.01, 0.02, (3600, 1)).astype(np.float32)).tobytes()
    frame = encode_tensor(raw, "F32", columns=300)
    header = parse_header(frame)
    assert header.codec == "multiples"
    assert len(list(header.spans())) == 3
    for start, stop in ((0, len(raw)), (2_097_000, 2_097_301), (4_194_303, 4_194_310)):
        assert bytes(decode_range(frame, start, stop)) == raw[start:stop]


@pytest.mark.parametrize("dtype", KINDS)
def test_what_does_not_fit_comes_back_too(dtype: str):
    integers, scales = quantise("int4")
    values = (integers * scales).astype(KINDS[dtype])
    values[::40, ::50] = 0.123
    values[5, 5:8] = np.nan, -np.inf, -0.0
    raw = values.tobytes()
    frame = encode_tensor(raw, dtype, columns=COLUMNS)
    assert parse_header(frame).codec == "multiples"
    assert len(frame) < 0.9 * len(encode_tensor(raw, dtype, codec="planes"))
    assert bytes(decode_tensor(frame)) == raw


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("rule", ["times", "over"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_mixture_comes_back(dtype: str, rule: str, data: st.DataObject):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    group, count = data.draw(st.sampled_from([16, 20, 64])), data.draw(st.integers(1, 700))
    most = data.draw(st.sampled_from([1, 7, 127]))
    integers = rng.integers(-most, most + 1, count).astype(np.float32)
    exponent = data.draw(st.integers(-140, 120))
    scales = np.exp2(rng.uniform(exponent, exponent + 1, count // group + 1)).astype(np.float32)
    each = np.repeat(scales, group)[:count]
    with np.errstate(all="ignore"):
        values = (integers / each if rule == "over" else integers * each).astype(KINDS[dtype])
    raw = bytearray(values.tobytes())
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[at] = 255
    frame = encode_tensor(bytes(raw), dtype, columns=data.draw(st.sampled_from([group, None])))
    assert bytes(decode_tensor(frame)) == raw


def test_other_weights_have_no_such_frame():
    rng = np.random.default_rng(5)
    for values in (rng.normal(0, 0.02, 50_000), np.zeros(50_000), rng.uniform(-1, 1, 50_000)):
        for dtype, kind in KINDS.items():
            raw = values.astype(kind).tobytes()
            frame = encode_tensor(raw, dtype, codec="multiples", columns=500)
            assert parse_header(frame).codec == "raw"


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (1, b"\2"),
        (2, bytes(4)),
        (6, (COLUMNS).to_bytes(4, "little")),
        (2, b"\xff\xff\xff\xff"),
        (10, b"\4"),
        (10, b"\x81"),
    ],
    ids=["rule", "no group", "phase", "one group", "fields", "a base"],
)
def test_heads_of_blocks_are_checked(at: int, new: bytes):
    integers, scales = quantise("int8")
    frame = encode_tensor((integers * scales).astype(np.float32).tobytes(), "F32", columns=COLUMNS)
    (block,) = stored_blocks(frame)
    with pytest.raises(FrameError):
        decode_tensor(with_blocks(frame, [block[:at] + new + block[at + len(new) :]]))


@pytest.mark.parametrize("bits", [0x7F800000, 0x7FC00000, 0xFFFFFFFF, 0x80000001, 0])
def test_scales_that_nothing_has_are_refused(bits: int):
    scale = bits.to_bytes(4, "little")
    constant = b"\1\1\0\0\0\4"
    head = bytes([13, 1]) + (64).to_bytes(4, "little") + bytes(4)
    scales = b"\0\0\4\0\0\0" + scale
    frame = encode_tensor(np.arange(64, dtype=np.float32).tobytes(), "F32", codec="planes")
    multiples = with_field(frame, 5, 12, 1)
    with pytest.raises(CorruptFrame, match="scale"):
        decode_tensor(with_blocks(multiples, [head + scales + constant + b"\x08"]), verify=False)

"""Tensors with a base: round trips, equal bytes everywhere, row maps, wrong bases, good choices."""

import numpy as np
import pytest
from blake3 import blake3
from delta_samples import KINDS, sample_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_samples import DTYPES, sample_bytes

from weightvault.codecs.errors import WrongBase
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import LEVELS, decode_range, decode_tensor, encode_tensor
from weightvault.codecs.registry import CODECS
from weightvault.codecs.simd import paths

LENGTHS = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2047, 2048, 4095, 8192, 16_385, 32_768, 65_535, 70_001]),
)


@settings(deadline=None, max_examples=150)
@given(
    dtype=st.sampled_from(DTYPES),
    length=LENGTHS,
    kind=st.sampled_from(KINDS),
    level=st.sampled_from(LEVELS),
    columns=st.sampled_from([None, 1, 7, 384, 100_000]),
    seed=st.integers(0, 1 << 16),
)
def test_bytes_come_back_with_a_base(dtype, length, kind, level, columns, seed):
    raw, base = sample_pair(kind, dtype, length, seed)
    frame = encode_tensor(raw, dtype, base=base, level=level, columns=columns)
    assert len(frame) <= len(raw) + 64
    assert bytes(decode_tensor(frame, base=base)) == raw
    named = parse_header(frame).base_digest
    assert named in (None, blake3(base).digest())


@settings(deadline=None, max_examples=80)
@given(
    dtype=st.sampled_from(["BF16", "F16", "I16", "U16", "F32", "F64", "F8_E4M3", "I8"]),
    codec=st.sampled_from([codec.name for codec in CODECS.values() if codec.needs_base]),
    kind=st.sampled_from(KINDS),
    count=st.sampled_from([1500, 2048, 16_384, 16_449, 40_001]),
    seed=st.integers(0, 99),
)
def test_same_bytes_come_back_on_every_path(dtype, codec, kind, count, seed):
    raw, base = sample_pair(kind, dtype, count, seed)
    frames = set()
    for path in paths.available_paths():
        paths.force_path(path)
        frames.add(encode_tensor(raw, dtype, base=base, codec=codec, columns=384))
    assert len(frames) == 1
    (frame,) = frames
    for path in paths.available_paths():
        paths.force_path(path)
        assert bytes(decode_tensor(frame, base=base)) == raw


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_any_bits_against_any_bits(dtype):
    """Every 16-bit pattern in the upper half against 64 others, NaN, infinities and zeros among
    them.
    """
    words = np.arange(1 << 16, dtype=np.uint16)
    for turn in (0, 1, 0x7F, 0x100, 0x8000, 0x7FFF):
        other = np.roll(words, turn) ^ np.uint16(turn)
        raw, base = words.tobytes(), other.tobytes()
        for codec in ("difference", "xor-context", None):
            frame = encode_tensor(raw, dtype, base=base, codec=codec)
            assert bytes(decode_tensor(frame, base=base)) == raw


def test_bytes_do_not_depend_on_the_threads():
    raw, base = sample_pair("tuned", "BF16", 5_000_001, 3)
    one = encode_tensor(raw, "BF16", base=base, columns=500, threads=1)
    assert one == encode_tensor(raw, "BF16", base=base, columns=500, threads=3)
    assert parse_header(one).codec == "difference"
    assert bytes(decode_tensor(one, base=base, threads=3)) == raw


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_range_needs_only_its_blocks(data):
    raw, base = RANGED
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, len(raw)))
    digest = blake3(base).digest()
    part = decode_range(RANGED_FRAME, start, stop, base=base, base_digest=digest)
    assert bytes(part) == raw[start:stop]


RANGED = sample_pair("tuned", "BF16", 4_500_000, 4)
RANGED_FRAME = encode_tensor(RANGED[0], "BF16", base=RANGED[1])


@settings(deadline=None, max_examples=80)
@given(data=st.data(), dtype=st.sampled_from(["BF16", "F32", "U8"]))
def test_parts_of_another_tensor(data, dtype):
    base = sample_bytes("weights", dtype, data.draw(st.integers(1, 30_000)), 1)
    runs, raw, at = [], b"", 0
    for _ in range(data.draw(st.integers(0, 5))):
        raw += np.random.default_rng(len(raw)).bytes(data.draw(st.integers(0, 3000)))
        count = data.draw(st.integers(1, len(base)))
        start = data.draw(st.integers(0, len(base) - count))
        runs.append((len(raw), start, count))
        raw += base[start : start + count]
        at = len(raw)
    raw += sample_bytes("weights", dtype, data.draw(st.integers(0, 3000)), 2)
    frame = encode_tensor(raw, dtype, base=base, rows=runs)
    assert bytes(decode_tensor(frame, base=base)) == raw
    assert len(frame) <= len(raw) + 64
    assert bytes(decode_range(frame, at // 3, at // 2, base=base)) == raw[at // 3 : at // 2]


def test_appended_rows_cost_what_they_cost_alone():
    raw, base = sample_pair("tuned", "BF16", 800_000, 4)
    new = sample_bytes("weights", "BF16", 12_000, 9)
    plain, alone = encode_tensor(raw, "BF16", base=base), encode_tensor(new, "BF16")
    frame = encode_tensor(raw + new, "BF16", base=base, rows=[(0, 0, len(raw))])
    assert len(frame) <= 1.01 * (len(plain) + len(alone))
    assert bytes(decode_tensor(frame, base=base)) == raw + new
    short = encode_tensor(raw[:500_000], "BF16", base=base, rows=[(0, 0, 500_000)])
    assert bytes(decode_tensor(short, base=base)) == raw[:500_000]


def test_a_cut_embedding_is_a_copy():
    base = sample_bytes("weights", "BF16", 90_000, 9)
    frame = encode_tensor(base[10_000:70_000], "BF16", base=base, rows=[(0, 10_000, 60_000)])
    assert parse_header(frame).codec == "identical"
    assert len(frame) < 200
    assert bytes(decode_tensor(frame, base=base)) == base[10_000:70_000]
    assert bytes(decode_range(frame, 7, 99, base=base)) == base[10_007:10_099]


@pytest.mark.parametrize(
    "rows",
    [[(0, 0, 0)], [(0, 0, 101)], [(0, 50, 51)], [(50, 0, 50), (0, 0, 10)], [(0, -1, 5)]],
)
def test_impossible_row_maps_are_misuse(rows):
    with pytest.raises(ValueError, match="run"):
        encode_tensor(bytes(100), "U8", base=bytes(100), rows=rows)
    with pytest.raises(ValueError, match="base"):
        encode_tensor(bytes(100), "U8", rows=[(0, 0, 100)])
    with pytest.raises(ValueError, match="columns"):
        encode_tensor(bytes(100), "U8", columns=0)


@pytest.mark.parametrize("kind", ["tuned", "rare", "same", "moved"])
def test_the_wrong_base_is_refused(kind):
    raw, base = sample_pair(kind, "BF16", 50_000, 1)
    frame = encode_tensor(raw, "BF16", base=base)
    other = bytes([base[0] ^ 1]) + base[1:]
    for wrong in (None, other, base[:-2], base + b"\0\0"):
        with pytest.raises(WrongBase):
            decode_tensor(frame, base=wrong)
        with pytest.raises(WrongBase):
            decode_range(frame, 5, 10, base=wrong)
    with pytest.raises(WrongBase):
        decode_tensor(frame, base=base, base_digest=bytes(32))


def test_a_row_map_may_not_reach_beyond_the_base():
    raw, base = sample_pair("tuned", "BF16", 50_000, 1)
    frame = encode_tensor(raw, "BF16", base=base + bytes(100), rows=[(0, 0, 50_000)])
    with pytest.raises(WrongBase, match="reaches"):
        decode_tensor(frame, base=base[:49_998], verify=False)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("tuned", "difference"), ("rare", "sparse"), ("same", "identical"), ("unrelated", "planes")],
)
def test_each_kind_of_pair_finds_its_codec(kind, codec):
    raw, base = sample_pair(kind, "BF16", 300_000, 6)
    header = parse_header(encode_tensor(raw, "BF16", base=base))
    assert header.codec == codec
    assert (header.base_digest is None) == (codec == "planes")


def test_changes_at_random_take_little_more_than_their_entropy():
    rng = np.random.default_rng(3)
    base = np.frombuffer(sample_bytes("weights", "BF16", 1 << 20, 1), np.uint16)
    changed = rng.random(base.size) < 0.005
    raw = np.where(changed, rng.integers(0, 1 << 16, base.size, np.uint16), base)
    share = float(np.mean(raw != base))
    bits = -share * np.log2(share) - (1 - share) * np.log2(1 - share) + 16 * share
    assert len(encode_tensor(raw, "BF16", base=base)) <= 1.05 * base.size * bits / 8


def test_rows_and_columns_of_their_own_scale_are_found():
    rng = np.random.default_rng(3)
    scale = np.outer(2.0 ** rng.normal(0, 1.5, 400), 2.0 ** rng.normal(0, 1.5, 300))
    values = rng.normal(0, 0.05, scale.shape).astype(np.float32)
    moved = (values + rng.normal(0, 1e-4, scale.shape) * scale).astype(np.float32)
    base, raw = ((array.view(np.uint32) >> 16).astype(np.uint16) for array in (values, moved))
    by_group = encode_tensor(raw, "BF16", base=base)
    by_column = encode_tensor(raw, "BF16", base=base, columns=300)
    assert len(by_column) < 0.95 * len(by_group)
    assert bytes(decode_tensor(by_column, base=base)) == raw.tobytes()

"""Every instruction set gives the bytes that the plain loops give, and reads what they wrote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_samples import sample_bytes

from weightvault.codecs.buffers import freeze
from weightvault.codecs.delta import scales
from weightvault.codecs.dtypes import find_dtype
from weightvault.codecs.errors import CorruptFrame
from weightvault.codecs.pipeline import decode_tensor, encode_tensor
from weightvault.codecs.planes import WORDS
from weightvault.codecs.rans import rans
from weightvault.codecs.simd import paths

LENGTHS = st.one_of(
    st.integers(1, 700), st.sampled_from([63, 64, 65, 1023, 1024, 1025, 4096, 131_071, 131_073])
)


def _symbols(count: int, spread: float, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(128, spread, count)
    return freeze(np.clip(values, 0, 255).astype(np.uint8))


def _on_every_path(encode):
    coded = []
    for path in paths.available_paths():
        paths.force_path(path)
        coded.append(b"".join(encode()))
    return coded


@settings(deadline=None, max_examples=60)
@given(
    count=LENGTHS,
    spread=st.sampled_from([0.3, 1, 3, 20, 90, 1000]),
    log2=st.sampled_from([6, 9, 17]),
    seed=st.integers(0, 1000),
)
def test_planes(count, spread, log2, seed):
    symbols = _symbols(count, spread, seed)
    tables = rans.survey(symbols, log2)[0]
    coded = _on_every_path(lambda: rans.encode_plane(symbols, tables, log2))
    assert len(set(coded)) == 1
    for path in paths.available_paths():
        paths.force_path(path)
        out = np.zeros(count, np.uint8)
        rans.decode_plane(freeze(np.frombuffer(coded[0], np.uint8)), out)
        assert np.array_equal(out, symbols)


def _plane_of(symbols: np.ndarray, log2: int) -> np.ndarray:
    tables = rans.survey(symbols, log2)[0]
    return freeze(np.frombuffer(b"".join(rans.encode_plane(symbols, tables, log2)), np.uint8))


@settings(deadline=None, max_examples=60)
@given(
    count=LENGTHS,
    other=LENGTHS | st.none(),
    spreads=st.tuples(*[st.sampled_from([0.3, 3, 90])] * 2),
    log2=st.tuples(*[st.sampled_from([9, 17])] * 2),
    seed=st.integers(0, 1000),
)
def test_two_pairs_side_by_side(count, other, spreads, log2, seed):
    """With tables that fold into registers and tables that do not, of one length and of two."""
    counts = count, count if other is None else other
    low = [_symbols(n, 1000, seed + 5) for n in counts]
    high = [_symbols(n, spread, seed) for n, spread in zip(counts, spreads, strict=True)]
    coded = [_plane_of(plane, log) for plane, log in zip(high, log2, strict=True)]
    alone = [np.zeros(n, np.uint16) for n in counts]
    paths.force_path("portable")
    for stream in zip(coded, low, alone, strict=True):
        rans.decode_pair(*stream)
    for path in paths.available_paths():
        paths.force_path(path)
        out = [np.zeros(n, np.uint16) for n in counts]
        rans.decode_two_pairs(list(zip(coded, low, out, strict=True)))
        assert all(map(np.array_equal, out, alone))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("cut", [2, 300, None])
def test_a_bad_stream_beside_a_good_one_is_told(which, cut):
    symbols = _symbols(70_000, 3, 1)
    coded = [_plane_of(symbols, 17)] * 2
    bad = (
        coded[0][:-cut].copy()
        if cut
        else coded[0] ^ np.uint8(0x10) * (np.arange(coded[0].size) > 2000)
    )
    coded[which] = freeze(bad)
    out = [np.zeros(symbols.size, np.uint16) for _ in coded]
    with pytest.raises(CorruptFrame):
        rans.decode_two_pairs(list(zip(coded, [symbols] * 2, out, strict=True)))


@settings(deadline=None, max_examples=40)
@given(count=LENGTHS, rows=st.integers(1, 64), seed=st.integers(0, 1000))
def test_planes_with_contexts(count, rows, seed):
    symbols = _symbols(count, 12, seed)
    chosen = freeze(np.random.default_rng(seed).integers(0, rows, count, np.uint8))
    tables = rans.choose_tables(rans.count_contexts(symbols, chosen, rows))
    coded = _on_every_path(lambda: rans.encode_contexts(symbols, chosen, tables))
    assert len(set(coded)) == 1
    for path in paths.available_paths():
        paths.force_path(path)
        out = np.zeros(count, np.uint8)
        rans.decode_contexts(freeze(np.frombuffer(coded[0], np.uint8)), chosen, rows, out)
        assert np.array_equal(out, symbols)


@settings(deadline=None, max_examples=40)
@given(count=LENGTHS, seed=st.integers(0, 1000))
def test_pairs(count, seed):
    symbols, low = _symbols(count, 3, seed), _symbols(count, 1000, seed + 1)
    tables = rans.survey(symbols)[0]
    coded = freeze(np.frombuffer(b"".join(rans.encode_plane(symbols, tables)), np.uint8))
    wide = low.astype(np.uint16)
    expected = (wide & 128) << 8 | symbols.astype(np.uint16) << 7 | wide & 127
    for path in paths.available_paths():
        paths.force_path(path)
        out = np.zeros(count, np.uint16)
        rans.decode_pair(coded, low, out)
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize("kind", ["weights", "few", "pruned", "runs", "random"])
@pytest.mark.parametrize("dtype", ["BF16", "F32", "F64", "I32", "F8_E5M2"])
def test_frames(dtype, kind, level):
    raw = sample_bytes(kind, dtype, 150_003, 5)
    frames = []
    for path in paths.available_paths():
        paths.force_path(path)
        frames.append(encode_tensor(raw, dtype, level=level))
    assert len(set(frames)) == 1
    for path in paths.available_paths():
        paths.force_path(path)
        assert bytes(decode_tensor(frames[0])) == raw


@settings(deadline=None, max_examples=60)
@given(data=st.data(), count=st.sampled_from([64, 640, 5000]))
def test_every_path_refuses_the_same_streams(data, count):
    symbols = _symbols(count, 3, 1)
    tables = rans.survey(symbols)[0]
    coded = bytearray(b"".join(rans.encode_plane(symbols, tables)))
    if data.draw(st.booleans()):
        coded[data.draw(st.integers(0, len(coded) - 1))] ^= data.draw(st.integers(1, 255))
    coded = coded[: len(coded) - data.draw(st.integers(0, 40))]
    results = []
    for path in paths.available_paths():
        paths.force_path(path)
        out = np.zeros(count, np.uint8)
        try:
            rans.decode_plane(freeze(np.frombuffer(bytes(coded), np.uint8)), out)
            results.append(out.tobytes())
        except CorruptFrame:
            results.append(None)
    assert len(set(results)) == 1


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(["BF16", "F16", "F32", "F64", "I16", "F8_E4M3"]),
    length=st.sampled_from([16, 48, 100, 384]),
    phase=st.integers(0, 400),
    count=st.sampled_from([400, 401, 5000]),
    seed=st.integers(0, 1000),
)
def test_every_path_measures_alike(dtype, length, phase, count, seed):
    """Of all bit patterns, so that sums round, and NaN and infinity count for nothing."""
    kind = find_dtype(dtype)
    drawn = np.random.default_rng(seed).integers(0, 256, 2 * count * kind.item_bytes, np.uint8)
    words = freeze(drawn.view(WORDS[kind.item_bytes]))
    numbers = scales.as_numbers(words, kind)
    measured = set()
    for path in paths.available_paths():
        paths.force_path(path)
        how = scales.find_kind(kind)
        pair = numbers[:count], numbers[count:]
        rows = scales.measure_rows(*pair, how, 1, length, phase % length)
        groups = scales.measure_groups(*pair, how, 1)
        planes = rows.rows, rows.columns, groups.rows
        measured.add((rows.lowest, groups.lowest, *(plane.tobytes() for plane in planes)))
    assert len(measured) == 1


def test_only_paths_that_exist_here_can_be_forced():
    with pytest.raises(ValueError, match="sse9"):
        paths.force_path("sse9")
    assert paths.available_paths()[0] == "portable"
    assert paths.current_path() == paths.available_paths()[-1]

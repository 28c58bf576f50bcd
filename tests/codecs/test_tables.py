"""Frequency tables: exact sums, exact round trips, and no trust in what is read."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.codecs.rans import tables

COUNTS = st.lists(st.tuples(st.integers(0, 255), st.integers(1, 1 << 20)), min_size=1, max_size=256)


def _fit(counts: np.ndarray, group_log2: int) -> np.ndarray:
    freqs = np.zeros(256, np.uint16)
    tables.fit_kernel(counts, group_log2, np.zeros(256, np.uint32), np.zeros(256, np.uint8), freqs)
    return freqs


def _pack(freqs: np.ndarray, group_log2: int) -> np.ndarray:
    packed = np.zeros(tables.MAX_TABLE_BYTES, np.uint8)
    packed = packed[: tables.pack_table_kernel(freqs, group_log2, packed, 0)]
    packed.flags.writeable = False
    return packed


@settings(deadline=None, max_examples=150)
@given(pairs=COUNTS, group_log2=st.sampled_from([0, 4]))
def test_a_table_sums_to_its_scale_and_comes_back(pairs, group_log2):
    counts = np.zeros(256, np.uint32)
    for symbol, count in pairs:
        counts[symbol] += np.uint32(count)
    freqs = _fit(counts, group_log2)
    assert int(freqs.sum()) == tables.SCALE
    assert bool((freqs[counts > 0] > 0).all())
    assert int(freqs.max()) < tables.SCALE
    packed, parsed = _pack(freqs, group_log2), np.zeros(256, np.uint16)
    assert tables.parse_table_kernel(packed, 0, parsed) == packed.size
    assert np.array_equal(parsed, freqs)


@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=600))
def test_any_bytes_parse_to_a_sound_table_or_to_none(data):
    source = np.frombuffer(data, np.uint8)
    freqs = np.zeros(256, np.uint16)
    end = tables.parse_table_kernel(source, 0, freqs)
    if end != -1:
        assert 0 < end <= source.size
        assert int(freqs.sum()) in (0, tables.SCALE)


def test_every_prefix_of_a_table_is_refused():
    rng = np.random.default_rng(1)
    packed = _pack(_fit(rng.integers(0, 1000, 256).astype(np.uint32), 0), 0)
    freqs = np.zeros(256, np.uint16)
    for end in range(packed.size):
        assert tables.parse_table_kernel(packed[:end], 0, freqs) == -1


def test_the_rounding_error_costs_next_to_nothing():
    counts = np.array(
        [2 ** (20 - abs(s - 128) // 2) if abs(s - 128) < 40 else 0 for s in range(256)]
    )
    freqs = _fit(counts.astype(np.uint32), 0)
    price = tables.price_kernel(counts.astype(np.uint32), freqs, tables.COSTS) / tables.ONE_BIT
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * np.log2(share)).sum() * counts.sum())
    assert entropy <= price < entropy * 1.005

"""Masks of pruned copies: what they cost for each way of pruning, hostile payloads, and payloads
that must stay readable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operation_samples import any_bits, as_values, digest, make_words, weights

from weightvault.codecs.dtypes import find_dtype
from weightvault.codecs.errors import FrameError
from weightvault.codecs.rans.streams import StreamReader
from weightvault.dedup.derivations.masks import scores
from weightvault.dedup.derivations.masks.masks import (
    decode_cut,
    decode_zeros,
    encode_cut,
    encode_zeros,
)
from weightvault.dedup.derivations.operations.floats.formats import read_floats
from weightvault.dedup.derivations.operations.values import Values

ROWS, COLUMNS = 256, 384
KINDS = ("random", "magnitude", "rows", "wanda", "two of four", "any two of four")
GOLDEN_KEYS = ("bounds", "offsets", "fours")
GOLDEN = {
    "bounds": "7bfdce76c10d43d1",
    "offsets": "ef7dee57cc045855",
    "fours": "fa0b855a478e84c7",
}


def randoms(count: int, seed: int) -> np.ndarray:
    return (make_words(count, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def lowest(values: np.ndarray, each: int) -> np.ndarray:
    """True for the lowest half of every `each` neighbours."""
    order = np.argsort(values.reshape(-1, each), axis=1, kind="stable")
    cut = np.zeros(order.shape, bool)
    np.put_along_axis(cut, order[:, : each // 2], True, axis=1)
    return cut.reshape(values.shape)


def choose_cut(source: Values, kind: str) -> np.ndarray:
    magnitudes = np.abs(read_floats(source.dtype, source.raw)).reshape(ROWS, COLUMNS)
    noise = randoms(magnitudes.size, 7).reshape(magnitudes.shape)
    # Between 1/4 and 4, exactly the same everywhere.
    norms = np.float32(2.0) ** (make_words(COLUMNS, 8) % np.uint64(5)).astype(np.int32) / 4
    return {
        "random": noise < 0.5,
        "magnitude": lowest(magnitudes, magnitudes.size),
        "rows": lowest(magnitudes, COLUMNS),
        "wanda": lowest(magnitudes * norms * (1 + noise[0]), COLUMNS),
        "two of four": lowest(magnitudes, 4),
        "any two of four": lowest(noise, 4),
    }[kind]


def cut_words(source: Values, cut: np.ndarray, signed: bool = False) -> bytes:
    words = source.raw.view(f"<u{find_dtype(source.dtype).item_bytes}")
    sign = words.dtype.type(1 << (8 * words.itemsize - 1)) if signed else words.dtype.type(0)
    return np.where(cut.reshape(-1), words & sign, words).tobytes()


def encode_mask(source: Values, target: bytes, columns: int = 0) -> bytes | None:
    """The code of a target's zeros; with these in it, the source is the target."""
    found = encode_zeros(source, target, columns)
    if found is None:
        return None
    assert found[1].tobytes() == target
    return found[0]


def decoded(source: Values, payload: bytes) -> bytes:
    reader = StreamReader(np.frombuffer(payload, np.uint8), 0)
    out = decode_zeros(source, reader)
    reader.finish()
    return out.tobytes()


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F16"])
@pytest.mark.parametrize(
    ("kind", "most_bits"),
    [
        ("random", 1.01),
        ("magnitude", 0.05),
        ("rows", 0.1),
        ("wanda", 0.12),
        ("two of four", 0.03),
        ("any two of four", 0.66),
    ],
)
def test_masks_cost_what_the_pruning_leaves_open(dtype: str, kind: str, most_bits: float):
    source = weights(dtype, ROWS * COLUMNS, 5)
    target = cut_words(source, choose_cut(source, kind))
    payload = encode_mask(source, target, COLUMNS)
    assert payload is not None
    assert 8 * len(payload) <= most_bits * ROWS * COLUMNS
    assert decoded(source, payload) == target


def test_wanda_without_columns_costs_less_than_a_bit():
    source = weights("BF16", ROWS * COLUMNS, 5)
    target = cut_words(source, choose_cut(source, "wanda"))
    payload = encode_mask(source, target)
    assert payload is not None
    assert 8 * len(payload) <= 0.95 * ROWS * COLUMNS
    assert decoded(source, payload) == target


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("signed", [False, True])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_mask_comes_back(dtype: str, signed: bool, data: st.DataObject):
    count = data.draw(st.integers(1, 300))
    width = find_dtype(dtype).item_bytes
    raw = data.draw(st.binary(min_size=count * width, max_size=count * width))
    source = Values(dtype, np.frombuffer(raw, np.uint8))
    cut = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    target = cut_words(source, cut, signed)
    found = encode_zeros(source, target, data.draw(st.integers(0, count)))
    words = source.raw.view(f"<u{width}")
    if found is None:
        assert not (words[cut] << words.dtype.type(1)).any()
        return
    payload, left = found
    assert decoded(source, payload) == left.tobytes()
    put_in = left.view(words.dtype)[cut] << words.dtype.type(1)
    assert not put_in.any()
    assert (left.view(words.dtype)[~cut] == words[~cut]).all()


def test_a_cut_of_a_tuned_copy_comes_back():
    source = weights("BF16", ROWS * COLUMNS, 5)
    tuned = read_floats("BF16", source.raw) + read_floats("F32", weights("F32", 98304, 6).raw) / 50
    cut = choose_cut(as_values(tuned, "BF16"), "magnitude").reshape(-1).view(np.uint8)
    payload = encode_cut(source, cut, COLUMNS)
    assert 8 * len(payload) < 0.2 * cut.size
    reader = StreamReader(np.frombuffer(payload, np.uint8), 0)
    np.testing.assert_array_equal(decode_cut(source, reader), cut)
    assert reader.offset == len(payload)


def test_without_zeros_there_is_no_mask():
    source = weights("BF16", 64, 1)
    raw = source.raw.tobytes()
    assert encode_zeros(source, raw) is None
    assert encode_zeros(source, raw[:-2] + b"\1\1") is None
    assert encode_zeros(Values("I16", source.raw), bytes(len(raw))) is None
    assert encode_zeros(Values("BF16", source.raw[:0]), b"") is None


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_payloads_are_refused_or_give_something(kind: str):
    source = weights("BF16", ROWS * COLUMNS, 5)
    payload = encode_mask(source, cut_words(source, choose_cut(source, kind)), COLUMNS)
    assert payload is not None
    for at, word in enumerate(make_words(150, 3).tolist()):
        damaged = bytearray(payload)
        if at % 3:
            place = (word >> 8) % min(len(payload), 400)
            damaged[place] = word & 255
        else:
            del damaged[(word >> 8) % len(payload) :]
        try:
            reader = StreamReader(np.frombuffer(bytes(damaged), np.uint8), 0)
            out = decode_zeros(source, reader)
        except FrameError:
            continue
        kept = source.raw.view(np.uint16)
        found = out.view(np.uint16)
        assert ((found == kept) | (found & 0x7FFF == 0)).all()


def test_logarithms_are_those_of_the_reals():
    wanted = np.log2(1 + np.arange(4096) / 4096) * 2**14
    assert np.abs(scores.log_table() - wanted).max() <= 1


def golden(kind: str) -> str:
    bits = any_bits("F32", ROWS * COLUMNS, 4).raw.view(np.uint32) & np.uint32(0x7FFFFFFF)
    bits[::50] = 0
    if kind == "bounds":
        bounds = np.sort(bits[:62])
        return digest(scores.bound_contexts(bits, np.unique(bounds)))
    if kind == "offsets":
        sides = any_bits("I16", ROWS + COLUMNS, 5).raw.view(np.int16)
        return digest(scores.offset_contexts(bits, sides[:ROWS], sides[ROWS:]))
    cut = (make_words(bits.size, 6) % np.uint64(2)).astype(np.uint8)
    return digest(np.concatenate(scores.four_ranks(bits, cut)))


@pytest.mark.parametrize("kind", GOLDEN)
def test_contexts_never_change(kind: str):
    assert golden(kind) == GOLDEN[kind]

"""The shapes of data that stores hold come out as small as their entropy allows."""

import heapq

import numpy as np
import pytest

from weightvault.codecs.pipeline import LEVELS, decode_tensor, encode_tensor

COUNT = 400_000


def _stored(tensor: np.ndarray, dtype: str, level: str = "default") -> float:
    """Returns stored bytes per raw byte after a round trip."""
    frame = encode_tensor(tensor, dtype, level=level)
    assert bytes(decode_tensor(frame)) == tensor.tobytes()
    return len(frame) / tensor.nbytes


def _entropy(symbols: np.ndarray) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _weights(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, COUNT).astype(np.float32)


def _bf16(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _prefix_length(symbols: np.ndarray) -> float:
    """Returns the mean length of Huffman's codes: each merging adds a bit to all below it."""
    heap = np.unique(symbols, return_counts=True)[1].tolist()
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        heapq.heappush(heap, merged)
        bits += merged
    return bits / symbols.size


@pytest.mark.parametrize("level", LEVELS)
def test_bf16_weights_cost_their_exponents_entropy(level):
    """At level ``fast`` that of whole bits, of a prefix code."""
    words = _bf16(_weights())
    bits = _prefix_length if level == "fast" else _entropy
    assert _stored(words, "BF16", level) * 16 < 8 + bits(words >> 7 & 255) + 0.03


def test_contexts_make_the_highest_level_smaller():
    words = _bf16(_weights() * np.repeat(np.float32(2) ** np.arange(-4, 4), COUNT // 8))
    assert (
        _stored(words, "BF16", "max")
        < _stored(words, "BF16")
        < _stored(words, "BF16", "fast") + 1e-9
    )


def test_pruned_weights_cost_a_bit_per_hole():
    words = _bf16(_weights())
    whole = _stored(words, "BF16")
    words[np.random.default_rng(2).random(COUNT) < 0.5] = 0
    assert _stored(words, "BF16") < whole / 2 + 1 / 16 + 0.003


def test_ternary_weights_cost_their_entropy():
    words = np.random.default_rng(3).choice(np.array([0x3C12, 0, 0xBC12], np.uint16), COUNT)
    assert _stored(words, "BF16") * 16 < 1.62


def test_bf16_values_in_fp32_cost_half():
    words = _bf16(_weights())
    wide = words.astype(np.uint32) << 16
    assert abs(_stored(wide, "F32") - _stored(words, "BF16") / 2) < 0.002


def test_fp32_with_zero_tails_costs_what_is_left():
    tails = _weights().view(np.uint32) & 0xFFFFE000
    assert _stored(tails, "F32") * 32 < _stored(_weights(), "F32") * 32 - 12.9


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_integers_cost_their_entropy(bits):
    per_word = 32 // bits
    values = np.random.default_rng(4).normal(0, 2 ** (bits - 3), COUNT * per_word // 4)
    codes = np.clip(np.round(values) + 2 ** (bits - 1), 0, 2**bits - 1).astype(np.uint32)
    words = np.zeros(COUNT // 4, np.uint32)
    for place in range(per_word):
        words |= codes[place::per_word] << np.uint32(place * bits)
    assert _stored(words, "I32") * bits < _entropy(codes) * 1.01


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "I64"])
def test_masks_and_counters_shrink(dtype):
    rng = np.random.default_rng(5)
    tensor = {
        "BOOL": rng.random(COUNT) < 0.1,
        "U8": np.packbits(rng.random(COUNT) < 0.05),
        "I64": np.arange(COUNT) // 7,
    }[dtype]
    assert _stored(tensor, dtype) < {"BOOL": 0.065, "U8": 0.32, "I64": 0.02}[dtype]


def test_zeros_and_constants_cost_nothing():
    for tensor in (np.zeros(COUNT, np.float32), np.full(COUNT, 1.5, np.float32)):
        assert len(encode_tensor(tensor, "F32")) == 68


def test_runs_are_found():
    assert _stored(np.repeat(_weights()[: COUNT // 100], 100), "F32") < 0.02


@pytest.mark.parametrize("dtype", ["U8", "BF16", "F32", "F64", "I32"])
@pytest.mark.parametrize("size", [1, 63, 4096, 1_048_577])
def test_random_bytes_grow_by_the_header_alone(dtype, size):
    raw = np.random.default_rng(6).integers(0, 256, size, np.uint8)
    base = raw[::-1].copy()
    for level in LEVELS:
        assert len(encode_tensor(raw, dtype, level=level)) <= size + 64
        assert len(encode_tensor(raw, dtype, level=level, base=base)) <= size + 64


def test_patterns_that_are_no_numbers_come_back():
    patterns = np.array(
        [0x7FC00001, 0xFFC00000, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x80000000, 0], np.uint32
    )
    mixed = np.random.default_rng(7).choice(patterns, 5000)
    mixed[::3] = _weights().view(np.uint32)[:1667]
    _stored(mixed, "F32")
    every = np.arange(1 << 16, dtype=np.uint16)
    for dtype in ("BF16", "F16", "I16"):
        _stored(every, dtype)
        _stored(np.random.default_rng(8).permutation(every), dtype, "max")

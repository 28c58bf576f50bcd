"""Predicts how large frames will be from the words of sketches, without reading any weights.

A delta codes, for each element, how many units of the last place it is away from its base: about
the entropy of that number's bit length, and the bits below the leading one as they are. A frame
without a base codes the high byte of floats by its entropy and the rest as it is. What remains,
coders' contexts on the one side and tables and headers on the other, is fitted to real frames
(`benchmarks/families/families.py --fit`), by the bytes of an element.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import QUANTISED, find_dtype
from ..model.sketch import Sketch, order_words, word_bytes

# Factors, in bits an element, of: bits below the leading one and sign; entropy of the bit length;
# share of equal elements; one. Then the bytes of tables and headers. By the bytes of an element
# kept and the least raw bytes of the chunk. Fitted to the frames of the 629 pairs of tensors of the
# corpora (`benchmarks/families/families.py --fit`); off by 2 points of the raw size on average, by
# 1.2 from 16 KiB on. There were no pairs of one-byte elements: theirs are those of two bytes.
_FACTORS: dict[int, tuple[tuple[int, tuple[float, ...]], ...]] = {
    2: (
        (16384, (0.58, 0.88, -2.04, 0.70, 2286)),
        (2048, (0.48, 1.24, -1.28, 0.00, 488)),
        (0, (0.21, 2.06, -1.42, -1.91, 320)),
    ),
    4: (
        (2048, (1.05, 2.07, 0.00, -5.34, 400)),
        (0, (0.90, 0.93, 0.00, 0.00, 371)),
    ),
}
# Header with a base, and what a frame takes of a tensor that is nearly the same.
_LEAST_BYTES = 100
_LEAST_SHARE = 0.002
_LENGTHS = 33
# What frames take of quantised tensors: 0.94 to 0.98, by their type.
_QUANTISED_SHARE = 0.96


def predict_deltas(sketch: Sketch, bases: Sequence[Sketch]) -> list[int]:
    """Returns the predicted frame bytes of a chunk coded against each of `bases`, which have its
    dtype; what goes beyond the end of a shorter one is standalone."""
    sizes = delta_sizes(sketch, _ordered(sketch), ordered_words(bases))
    shares = np.array([min(1.0, base.size / max(1, sketch.size)) for base in bases])
    return [int(size) for size in sizes * shares + predict_alone(sketch) * (1 - shares)]


def delta_sizes(
    sketch: Sketch, words: NDArray[np.int64], bases: NDArray[np.int64]
) -> NDArray[np.float64]:
    """As predict_deltas, for words from `ordered_words`: (m,) and (n, m) int64 give (n,)."""
    if not len(words):
        return np.full(len(bases), _unknown_bytes(sketch), np.float64)
    return _frame_bytes(sketch, _features(words, bases))


def delta_features(sketch: Sketch, bases: Sequence[Sketch]) -> NDArray[np.float64]:
    """Returns what predictions are made from, (4, n): see _FACTORS."""
    return _features(_ordered(sketch), ordered_words(bases))


def _features(words: NDArray[np.int64], bases: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = _bit_lengths(words - bases)
    below = np.maximum(lengths - 1, 0).mean(1) + (lengths > 0).mean(1)
    equal = (lengths == 0).mean(1)
    return np.stack([below, _entropies(lengths, _LENGTHS), equal, np.ones_like(equal)])


def ordered_words(sketches: Sequence[Sketch]) -> NDArray[np.int64]:
    """Returns the words of sketches of one dtype in the order of their values, (n, m) int64."""
    return np.stack([_ordered(sketch) for sketch in sketches])


def predict_alone(sketch: Sketch) -> int:
    """Returns the predicted frame bytes of a chunk without a base."""
    dtype = find_dtype(sketch.dtype)
    if sketch.dtype in QUANTISED:
        return int(_QUANTISED_SHARE * sketch.size) + 64
    words = np.frombuffer(sketch.words, f"<u{word_bytes(sketch.dtype)}")
    if not len(words):
        return _unknown_bytes(sketch)
    high = (words >> (8 * words.itemsize - 8 - int(dtype.is_float))) & 255
    bits = 8 * (dtype.item_bytes - 1) + _entropies(high[None].astype(np.int64), 256)[0]
    tables = min(200, sketch.size // 8)
    return int(min(sketch.size, sketch.size * bits / (8 * dtype.item_bytes) + tables)) + 64


def _unknown_bytes(sketch: Sketch) -> int:
    # Short texts have no words: nothing is known of them.
    return sketch.size + 64


def _ordered(sketch: Sketch) -> NDArray[np.int64]:
    words = np.frombuffer(sketch.words, f"<u{word_bytes(sketch.dtype)}")
    return order_words(words, sketch.dtype).astype(np.int64)


def _frame_bytes(sketch: Sketch, features: NDArray[np.float64]) -> NDArray[np.float64]:
    width = find_dtype(sketch.dtype).item_bytes
    steps = _FACTORS[max(2, word_bytes(sketch.dtype))]
    factors, overhead = next((f[:4], f[4]) for least, f in steps if sketch.size >= least)
    # What is not kept of wide elements is noise.
    bits = np.array(factors) @ features + 8 * max(0, width - 4)
    size = sketch.size / width * bits / 8 + overhead
    return np.clip(size, _LEAST_BYTES + _LEAST_SHARE * sketch.size, sketch.size + _LEAST_BYTES)


def _bit_lengths(differences: NDArray[np.int64]) -> NDArray[np.int64]:
    # Exact: differences are below 2^33, and a float64 holds 53 bits.
    return np.frexp(np.abs(differences).astype(np.float64))[1].astype(np.int64)


def _entropies(values: NDArray[np.int64], limit: int) -> NDArray[np.float64]:
    """Entropy in bits of each row of (n, m) values below `limit`, for the bias of small samples
    corrected (Miller and Madow, 1955)."""
    rows, columns = values.shape
    flat = values + limit * np.arange(rows)[:, None]
    counts = np.bincount(flat.ravel(), minlength=rows * limit).reshape(rows, limit)
    shares = counts / columns
    plain = -(shares * np.log2(np.where(counts, shares, 1))).sum(1)
    return plain + (np.count_nonzero(counts, axis=1) - 1) / (2 * columns * np.log(2))

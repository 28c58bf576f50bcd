"""Inputs for operations, made of integers alone so that every machine has the same, and a way to
run one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from blake3 import blake3

from weightvault.codecs.buffers import freeze
from weightvault.codecs.dtypes import find_dtype
from weightvault.dedup.derivations.operations.floats.formats import write_floats
from weightvault.dedup.derivations.operations.values import Values


def make_words(count: int, seed: int) -> np.ndarray:
    """Returns (count,) uint64 that look random: splitmix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def any_bits(dtype: str, count: int, seed: int) -> Values:
    """Returns elements of any bit pattern, NaNs and infinities among them."""
    width = find_dtype(dtype).item_bytes
    words = make_words(count, seed).astype(f"<u{width}" if width < 8 else "<u8")
    return Values(dtype, freeze(words.view(np.uint8)))


def weights(dtype: str, count: int, seed: int) -> Values:
    """Returns elements like weights: sums of four uniform numbers, about 0.03 wide."""
    words = make_words(count, seed)
    parts = [(words >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)]
    values = (np.sum(parts, axis=0).astype(np.int64) - 131070).astype(np.float32) * np.float32(
        2.0**-20
    )
    return as_values(values, dtype)


def as_values(values: Any, dtype: str) -> Values:
    """Returns numbers as elements of a float dtype, rounded to nearest even."""
    flat = freeze(np.ascontiguousarray(values, np.float32).reshape(-1))
    raw = np.empty(flat.size * find_dtype(dtype).item_bytes, np.uint8)
    write_floats(flat, dtype, False, raw)
    return Values(dtype, freeze(raw))


def integers(values: Any, dtype: str) -> Values:
    """Returns numbers as elements of an integer dtype."""
    kind = f"<{'i' if dtype[0] == 'I' else 'u'}{find_dtype(dtype).item_bytes}"
    return Values(dtype, freeze(np.ascontiguousarray(values, kind).reshape(-1).view(np.uint8)))


def run(
    operation: Any,
    operands: Sequence[Values],
    dtype: str,
    count: int,
    parameters: bytes = b"",
    first: int = 0,
) -> np.ndarray:
    """Checks and runs an operation; returns its raw bytes, (count * item bytes,) uint8."""
    operation.check([values.dtype for values in operands], dtype, parameters)
    out = np.full(count * find_dtype(dtype).item_bytes, 0xA5, np.uint8)
    operation.predict(operands, dtype, first, parameters, out)
    return out


def digest(raw: np.ndarray) -> str:
    """Returns the first 16 hexadecimal digits of the bytes' BLAKE3."""
    return blake3(raw.tobytes()).hexdigest(16 // 2)

"""Computes the float32 values that blocks stand for, so that they can be a source themselves.

Source: the dequantize_row functions in ggml-quants.c of the ggml project. NumPy multiplies and adds
float32 one by one, in the order written here.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes
from . import iq4, mx, ternary
from .arithmetic import from_half_kernel, settle_nans_kernel
from .layout import Symbols, as_blocks, as_sources, split

Floats = NDArray[np.float32]
Parts = dict[str, Symbols]

_PART = 1024
"""Blocks at a time: what is computed of them stays in the cache."""


def dequantise(kind: str, blocks: Bytes, out: Floats) -> None:
    """Writes the values of ``blocks``, (n * block_bytes,) uint8, to ``out``, (n * elements,)
    float32. Every NaN has the bits 0x7FC00000.

    Raises ValueError for a kind there is no operation for, and where the sizes do not fit.
    """
    rows, values = as_blocks(kind, blocks), as_sources(kind, out)
    if len(rows) != len(values):
        raise ValueError(f"{len(rows)} blocks of {kind}, {len(values)} to write")
    for first in range(0, len(rows), _PART):
        found = read_values(kind, split(kind, rows[first : first + _PART].reshape(-1)))
        values[first : first + _PART] = found.reshape(-1, values.shape[1])
    settle_nans_kernel(out)


def read_values(kind: str, parts: Parts) -> Floats:
    """Returns the values of blocks that `split` has cut, (n * elements,) float32, whose NaNs may
    be any."""
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(_FORMULAS[kind](parts)).reshape(-1)


def _factor(bits: Symbols) -> Floats:
    """The values of F16s, (n, 1, 1)."""
    values = np.empty(bits.size, np.float32)
    from_half_kernel(bits, values)
    return values.reshape(-1, 1, 1)


def _floats(symbols: NDArray[Any], zero: int = 0) -> Floats:
    return symbols.astype(np.float32) - np.float32(zero)


def _quants(parts: Parts, runs: int, zero: int = 0) -> Floats:
    """The quants of n blocks, (n, runs, elements of a run)."""
    return _floats(parts["quants"], zero).reshape(len(parts["d"]), runs, -1)


def _scales(parts: Parts, runs: int, zero: int = 0, name: str = "scales") -> Floats:
    return _floats(parts[name], zero).reshape(-1, runs, 1)


def _signed(symbols: NDArray[Any]) -> Floats:
    return np.asarray(symbols.view(np.int8), np.float32)


def _symmetric(zero: int) -> Callable[[Parts], Floats]:
    return lambda parts: _quants(parts, 1, zero) * _factor(parts["d"])


def _affine(parts: Parts) -> Floats:
    return _quants(parts, 1) * _factor(parts["d"]) + _factor(parts["m"])


def _q8_0(parts: Parts) -> Floats:
    return _signed(parts["quants"]).reshape(-1, 1, 32) * _factor(parts["d"])


def _minima(runs: int) -> Callable[[Parts], Floats]:
    def compute(parts: Parts) -> Floats:
        scales: Floats = _factor(parts["d"]) * _scales(parts, runs)
        minima: Floats = _factor(parts["dmin"]) * _scales(parts, runs, name="minima")
        values = scales * _quants(parts, runs)
        values -= minima
        return values

    return compute


def _q3_k(parts: Parts) -> Floats:
    return _factor(parts["d"]) * _scales(parts, 16, 32) * _quants(parts, 16, 4)


def _q6_k(parts: Parts) -> Floats:
    scales = _signed(parts["scales"]).reshape(-1, 16, 1)
    return _factor(parts["d"]) * scales * _quants(parts, 16, 32)


def _iq4_nl(parts: Parts) -> Floats:
    return _factor(parts["d"]) * iq4.VALUES[parts["quants"]].reshape(-1, 1, 32)


def _iq4_xs(parts: Parts) -> Floats:
    quants = iq4.VALUES[parts["quants"]].reshape(-1, 8, 32)
    return _factor(parts["d"]) * _scales(parts, 8, 32) * quants


@cache
def _list_scales(read: Callable[[int], np.float32]) -> Floats:
    return np.array([read(code) for code in range(256)], np.float32)


def _mxfp4(parts: Parts) -> Floats:
    scales = _list_scales(mx.read_exponent)[parts["scales"]]
    return mx.VALUES[parts["quants"]].reshape(-1, 32) * scales[:, None]


def _nvfp4(parts: Parts) -> Floats:
    # Symbols are the halves of bytes in turn; the high halves are a run's last elements.
    quants = parts["quants"].reshape(-1, 8, 2).transpose(0, 2, 1).reshape(-1, 16)
    return mx.VALUES[quants] * _list_scales(mx.read_scale)[parts["scales"]][:, None]


def _tq1_0(parts: Parts) -> Floats:
    codes = parts["quants"].reshape(-1, 52)
    trits = []
    for first, count, _, digits in ternary.PARTS:
        for digit in range(digits):
            rest = codes[:, first : first + count] * np.uint8(3**digit)
            trits.append((rest.astype(np.uint16) * 3) >> 8)
    return _floats(np.concatenate(trits, axis=1), 1) * _factor(parts["d"])[:, 0]


def _tq2_0(parts: Parts) -> Floats:
    codes = parts["quants"].reshape(-1, 2, 1, 32)
    trits = (codes >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
    return _floats(trits.reshape(-1, 256), 1) * _factor(parts["d"])[:, 0]


_FORMULAS: dict[str, Callable[[Parts], Floats]] = {
    "Q4_0": _symmetric(8),
    "Q4_1": _affine,
    "Q5_0": _symmetric(16),
    "Q5_1": _affine,
    "Q8_0": _q8_0,
    "Q2_K": _minima(16),
    "Q3_K": _q3_k,
    "Q4_K": _minima(8),
    "Q5_K": _minima(8),
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
}

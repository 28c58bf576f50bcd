"""Computes the float32 values that blocks stand for, so that they can be a source themselves.

Source: the dequantize_row functions in ggml-quants.c of the ggml project. Every type is of one
form: a level for each quant, times the scale of its run, plus an offset; each result is rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes, freeze
from .....codecs.jit.cached import njit
from . import iq4, mx, ternary
from .arithmetic import from_half_kernel, settle_nans_kernel
from .layout import Symbols, as_blocks, as_sources, split

Floats = NDArray[np.float32]
Parts = dict[str, Symbols]

PART = 1024
"""Blocks at a time: what is computed of them stays in the cache."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What blocks stand for: levels[quant] × scale + offset.

    ``quants``: (n, runs, elements) uint8, in the order of the elements. ``scales``, ``offsets``:
    (n, runs) float32; offsets of -0 change nothing. ``levels``: (last + 1,) float32, or how much
    the level of each quant is below it. ``last``: the largest quant. Arrays are read-only, C-order.
    """

    quants: Bytes
    scales: Floats
    offsets: Floats
    levels: Floats | int
    last: int


def dequantise(kind: str, blocks: Bytes, out: Floats) -> None:
    """Writes the values of ``blocks``, (n * block_bytes,) uint8, to ``out``, (n * elements,)
    float32. Every NaN has the bits 0x7FC00000.

    Raises ValueError for a kind there is no operation for, and where the sizes do not fit.
    """
    rows, values = as_blocks(kind, blocks), as_sources(kind, out)
    if len(rows) != len(values):
        raise ValueError(f"{len(rows)} blocks of {kind}, {len(values)} to write")
    for first in range(0, len(rows), PART):
        lines = read_lines(kind, rows[first : first + PART])
        room = values[first : first + PART].reshape(lines.quants.shape)
        given = lines.quants, lines.scales, lines.offsets
        if isinstance(lines.levels, int):
            even_values_kernel(*given, np.float32(lines.levels), room)
        else:
            uneven_values_kernel(*given, lines.levels, room)
    settle_nans_kernel(out)


@njit(nogil=True, cache=True, error_model="numpy")
def even_values_kernel(quants, scales, offsets, zero, values):
    """Writes the values of `Lines` to (n, runs, elements) float32."""
    for n in range(quants.shape[0]):
        for run in range(quants.shape[1]):
            scale, offset = scales[n, run], offsets[n, run]
            mine, out = quants[n, run], values[n, run]
            for i in range(mine.size):
                out[i] = (np.float32(mine[i]) - zero) * scale + offset


@njit(nogil=True, cache=True, error_model="numpy")
def uneven_values_kernel(quants, scales, offsets, levels, values):
    """Does as `even_values_kernel`, with a table of levels."""
    for n in range(quants.shape[0]):
        for run in range(quants.shape[1]):
            scale, offset = scales[n, run], offsets[n, run]
            for i in range(quants.shape[2]):
                values[n, run, i] = levels[quants[n, run, i]] * scale + offset


def read_lines(kind: str, blocks: Bytes) -> Lines:
    """Returns what (n, block_bytes) uint8 stand for."""
    parts = split(kind, blocks.reshape(-1))
    with np.errstate(all="ignore"):
        quants, scales, offsets, levels, last = _FORMS[kind](parts)
    scales = scales.reshape(len(blocks), -1)
    offsets = np.full(scales.shape, -0.0, np.float32) if offsets is None else offsets
    return Lines(
        freeze(np.ascontiguousarray(quants).reshape(*scales.shape, -1)),
        freeze(np.ascontiguousarray(scales)),
        freeze(np.ascontiguousarray(offsets).reshape(scales.shape)),
        levels,
        last,
    )


_Form = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | int, int]


_IQ4, _MX = freeze(iq4.VALUES.copy()), freeze(mx.VALUES.copy())


def _factor(bits: Symbols) -> Floats:
    """The values of F16s, (n, 1)."""
    values = np.empty(bits.size, np.float32)
    from_half_kernel(bits, values)
    return values.reshape(-1, 1)


def _scales(parts: Parts, zero: int = 0, name: str = "scales") -> Floats:
    """The scales of n blocks as floats, (n, runs)."""
    floats = parts[name].astype(np.float32) - np.float32(zero)
    return floats.reshape(len(parts["d"]), -1)


def _symmetric(zero: int) -> Callable[[Parts], _Form]:
    last = 2 * zero - 1
    return lambda parts: (parts["quants"], _factor(parts["d"]), None, zero, last)


def _affine(last: int) -> Callable[[Parts], _Form]:
    def read(parts: Parts) -> _Form:
        scales, offsets = _factor(parts["d"]), _factor(parts["m"])
        return parts["quants"], scales, offsets, 0, last

    return read


def _minima(last: int) -> Callable[[Parts], _Form]:
    def read(parts: Parts) -> _Form:
        scales = _factor(parts["d"]) * _scales(parts)
        minima = _factor(parts["dmin"]) * _scales(parts, name="minima")
        return parts["quants"], scales, -minima, 0, last

    return read


def _q8_0(parts: Parts) -> _Form:
    # Signed bytes, as numbers from 0 on.
    return parts["quants"] ^ 128, _factor(parts["d"]), None, 128, 255


def _q3_k(parts: Parts) -> _Form:
    return parts["quants"], _factor(parts["d"]) * _scales(parts, 32), None, 4, 7


def _q6_k(parts: Parts) -> _Form:
    signed = np.asarray(parts["scales"].view(np.int8), np.float32).reshape(-1, 16)
    return parts["quants"], _factor(parts["d"]) * signed, None, 32, 63


def _iq4_nl(parts: Parts) -> _Form:
    return parts["quants"], _factor(parts["d"]), None, _IQ4, 15


def _iq4_xs(parts: Parts) -> _Form:
    return parts["quants"], _factor(parts["d"]) * _scales(parts, 32), None, _IQ4, 15


@cache
def _list_scales(read: Callable[[int], np.float32]) -> Floats:
    return np.array([read(code) for code in range(256)], np.float32)


def _mxfp4(parts: Parts) -> _Form:
    scales = _list_scales(mx.read_exponent)[parts["scales"]]
    return parts["quants"], scales, None, _MX, 15


def _nvfp4(parts: Parts) -> _Form:
    # Symbols are the halves of bytes in turn; the high halves are a run's last elements.
    quants = parts["quants"].reshape(-1, 8, 2).transpose(0, 2, 1)
    return quants, _list_scales(mx.read_scale)[parts["scales"]], None, _MX, 15


def _tq1_0(parts: Parts) -> _Form:
    codes = parts["quants"].reshape(-1, 52)
    trits = []
    for first, count, _, digits in ternary.PARTS:
        for digit in range(digits):
            rest = codes[:, first : first + count] * np.uint8(3**digit)
            trits.append(((rest.astype(np.uint16) * 3) >> 8).astype(np.uint8))
    return np.concatenate(trits, axis=1), _factor(parts["d"]), None, 1, 2


def _tq2_0(parts: Parts) -> _Form:
    codes = parts["quants"].reshape(-1, 2, 1, 32)
    trits = (codes >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
    return trits, _factor(parts["d"]), None, 1, 3


_FORMS: dict[str, Callable[[Any], _Form]] = {
    "Q4_0": _symmetric(8),
    "Q4_1": _affine(15),
    "Q5_0": _symmetric(16),
    "Q5_1": _affine(31),
    "Q8_0": _q8_0,
    "Q2_K": _minima(3),
    "Q3_K": _q3_k,
    "Q4_K": _minima(15),
    "Q5_K": _minima(31),
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
}

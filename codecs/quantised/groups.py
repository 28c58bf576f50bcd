"""Where the fields of a group of quantised elements lie (FORMAT.md, "Fields").

A group is what ggml calls a block: some bytes that stand for 32 to 256 elements. Source: the
structures in ggml-common.h and the loops that dequantise them in ggml-quants.c, of the ggml
project; the layouts of ggml are little-endian.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Piece = tuple[int, int, int]
"""Byte of the group, its lowest bit that counts, and how many bits count from there."""
Symbol = tuple[Piece, ...]
"""One or two pieces of a symbol, the one with its low bits first."""


@dataclass(frozen=True, slots=True)
class Minima:
    """Which fields tell where the zero lies among the quants of a group with scales and minima.

    ``scale``, ``minimum``: the bytes at which the two F16 factors start. ``delta.scales``,
    ``minima``: the numbers of the planes they multiply. ``elements``: quants that share one of
    each.
    """

    scale: int
    minimum: int
    scales: int
    minima: int
    elements: int


@dataclass(frozen=True, slots=True)
class Scale:
    """What tells how widely the quants of a group spread: how large their scale is.

    ``factor``: the byte at which its F16 factor starts. ``elements``: quants that share one scale.
    ``delta.scales``: the number of the plane it multiplies, None where the factor is the scale;
    ``zero``: the symbol there that means 0, or 0 for signed bytes. ``peaks``: the values that
    quantising gives the element of largest magnitude of each run.
    """

    factor: int
    elements: int = 32
    scales: int | None = None
    zero: int = 0
    peaks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of one dtype.

    ``planes``: for each, its symbols in a group. ``guide``: what tells the contexts of the last
    plane, the quants; None where nothing does.
    """

    planes: tuple[tuple[Symbol, ...], ...]
    guide: Minima | Scale | None = None


def _bytes(start: int, count: int) -> tuple[Symbol, ...]:
    return tuple(((start + i, 0, 8),) for i in range(count))


def _wide(start: int, count: int, size: int = 2) -> list[tuple[Symbol, ...]]:
    """Little-endian integers or floats of ``size`` bytes as planes, the highest byte first."""
    return [
        tuple(((start + size * i + byte, 0, 8),) for i in range(count))
        for byte in reversed(range(size))
    ]


def _words(start: int, stride: int) -> tuple[Symbol, ...]:
    """Four bytes at each of eight places."""
    return tuple(((start + stride * word + i, 0, 8),) for word in range(8) for i in range(4))


def _nibbles(start: int, count: int) -> tuple[Symbol, ...]:
    """The two halves of each byte, the low one first."""
    return tuple(((start + i // 2, 4 * (i % 2), 4),) for i in range(count))


def _bits(start: int, position: int, width: int) -> Symbol:
    """Up to 8 bits from the bit ``position`` of little-endian words that start at ``start``."""
    byte, shift = start + position // 8, position % 8
    low = min(width, 8 - shift)
    rest = ((byte + 1, 0, width - low),) if width > low else ()
    return ((byte, shift, low), *rest)


def _join(low: Iterable[Symbol], high: Iterable[Symbol]) -> tuple[Symbol, ...]:
    return tuple((*a, *b) for a, b in zip(low, high, strict=True))


def _halves(start: int, elements: int, width: int) -> list[Symbol]:
    """Quants of ``width`` bits: in every byte one of each run of ``elements``, low bits first."""
    runs = 8 // width
    return [((start + i, width * run, width),) for run in range(runs) for i in range(elements)]


def _runs(start: int, count: int, width: int, elements: int = 32) -> list[Symbol]:
    """``count`` elements as several `_halves`, one after the other."""
    step = elements * 8 // width
    return [s for n in range(count // step) for s in _halves(start + n * elements, elements, width)]


def _six_bit_scales(start: int) -> tuple[tuple[Symbol, ...], tuple[Symbol, ...]]:
    """Eight scales and eight minima of six bits in twelve bytes."""
    scales = [((start + i, 0, 6),) for i in range(4)]
    scales += [((start + 8 + i, 0, 4), (start + i, 6, 2)) for i in range(4)]
    minima = [((start + 4 + i, 0, 6),) for i in range(4)]
    minima += [((start + 8 + i, 4, 4), (start + 4 + i, 6, 2)) for i in range(4)]
    return tuple(scales), tuple(minima)


def _signed_words(start: int, stride: int) -> list[tuple[Symbol, ...]]:
    """Eight words of 32 bits, ``stride`` bytes apart: four signs of 7 bits, then a scale of 4."""
    starts = [start + stride * word for word in range(8)]
    signs = tuple(_bits(word, 7 * i, 7) for word in starts for i in range(4))
    return [tuple(_bits(word, 28, 4) for word in starts), signs]


def _five_bit(start: int) -> tuple[Symbol, ...]:
    """32 quants: their fifth bits in four bytes, then their low four in sixteen."""
    return _join(_halves(start + 4, 16, 4), (((start + i // 8, i % 8, 1),) for i in range(32)))


def _make_q3() -> Layout:
    low = _runs(32, 256, 2)
    high = [((i % 32, i // 32, 1),) for i in range(256)]
    scales = _join(
        (((96 + i % 8, 4 * (i // 8), 4),) for i in range(16)),
        (((104 + i % 4, 2 * (i // 4), 2),) for i in range(16)),
    )
    return Layout((*_wide(108, 1), scales, _join(low, high)), Scale(108, 16, scales=2, zero=32))


def _make_q6() -> Layout:
    low = [
        ((64 * n + 32 * (run % 2) + i, 4 * (run // 2), 4),)
        for n in range(2)
        for run in range(4)
        for i in range(32)
    ]
    return Layout(
        (*_wide(208, 1), _bytes(192, 16), _join(low, _runs(128, 256, 2))), Scale(208, 16, scales=2)
    )


def _make_q5() -> Layout:
    high = (((16 + i % 32, i // 32, 1),) for i in range(256))
    quants = _join(_runs(48, 256, 4), high)
    factors = (*_wide(0, 1), *_wide(2, 1))
    return Layout((*factors, *_six_bit_scales(4), quants), Minima(0, 2, 4, 5, 32))


def _make_q4() -> Layout:
    factors = (*_wide(0, 1), *_wide(2, 1))
    quants = tuple(_runs(16, 256, 4))
    return Layout((*factors, *_six_bit_scales(4), quants), Minima(0, 2, 4, 5, 32))


def _make_q2() -> Layout:
    factors = (*_wide(80, 1), *_wide(82, 1))
    scales = tuple(((i, 0, 4),) for i in range(16))
    minima = tuple(((i, 4, 4),) for i in range(16))
    return Layout((*factors, scales, minima, tuple(_runs(16, 256, 2))), Minima(80, 82, 4, 5, 16))


def _make_iq4_xs() -> Layout:
    scales = _join(_nibbles(4, 8), (_bits(2, 2 * i, 2) for i in range(8)))
    quants = tuple(s for run in range(8) for s in _halves(8 + 16 * run, 16, 4))
    return Layout((*_wide(0, 1), scales, quants), Scale(0, scales=2, zero=32))


@cache
def find_layout(dtype: str) -> Layout:
    """Returns the fields of a quantised dtype."""
    return _LAYOUTS[dtype]


_LAYOUTS = {
    "Q4_0": Layout((*_wide(0, 1), tuple(_halves(2, 16, 4))), Scale(0, peaks=(0,))),
    "Q4_1": Layout((*_wide(0, 1), *_wide(2, 1), tuple(_halves(4, 16, 4)))),
    "Q5_0": Layout((*_wide(0, 1), _five_bit(2)), Scale(0, peaks=(0,))),
    "Q5_1": Layout((*_wide(0, 1), *_wide(2, 1), _five_bit(4))),
    "Q8_0": Layout((*_wide(0, 1), _bytes(2, 32)), Scale(0, peaks=(127, 129))),
    "Q2_K": _make_q2(),
    "Q3_K": _make_q3(),
    "Q4_K": _make_q4(),
    "Q5_K": _make_q5(),
    "Q6_K": _make_q6(),
    "Q8_K": Layout((*_wide(0, 1, 4), *_wide(260, 16), _bytes(4, 256))),
    "IQ2_XXS": Layout((*_wide(0, 1), *_signed_words(6, 8), _words(2, 8))),
    "IQ2_XS": Layout((*_wide(0, 1), _nibbles(66, 16), *_wide(2, 32))),
    "IQ3_XXS": Layout((*_wide(0, 1), *_signed_words(66, 4), _bytes(2, 64))),
    "IQ1_S": Layout((*_wide(0, 1), *_wide(34, 8), _bytes(2, 32))),
    "IQ4_NL": Layout((*_wide(0, 1), tuple(_halves(2, 16, 4))), Scale(0, peaks=(0,))),
    "IQ3_S": Layout((*_wide(0, 1), _bytes(106, 4), _bytes(66, 8), _bytes(74, 32), _bytes(2, 64))),
    "IQ2_S": Layout((*_wide(0, 1), _bytes(74, 8), _bytes(66, 8), _bytes(34, 32), _bytes(2, 32))),
    "IQ4_XS": _make_iq4_xs(),
    "IQ1_M": Layout((_bytes(48, 8), _bytes(32, 16), _bytes(0, 32))),
    "TQ1_0": Layout((*_wide(52, 1), _bytes(0, 52))),
    "TQ2_0": Layout((*_wide(64, 1), _bytes(0, 64))),
    "MXFP4": Layout((_bytes(0, 1), tuple(_halves(1, 16, 4)))),
    "NVFP4": Layout((_bytes(0, 4), _nibbles(4, 64))),
    "Q1_0": Layout((*_wide(0, 1), _bytes(2, 16))),
}


@cache
def list_places(dtype: str, plane: int) -> NDArray[np.uint16]:
    """Returns where the symbols of one plane lie in a group: (symbols, 7) uint16, read-only.

    Columns: byte, shift and mask of the low piece, of the high piece (mask 0 where there is none),
    and how many bits the low piece has.
    """
    rows = []
    for low, *rest in find_layout(dtype).planes[plane]:
        high = rest[0] if rest else (low[0], 0, 0)
        masks = (1 << low[2]) - 1, (1 << high[2]) - 1
        rows.append((*low[:2], masks[0], *high[:2], masks[1], low[2]))
    places = np.array(rows, np.uint16)
    places.flags.writeable = False
    return places

"""Tells from a group's scales how its quants are likely to be distributed (FORMAT.md, "Fields").

Every operation on floats here rounds as IEEE 754 says or takes bits apart, so that every machine
finds the same contexts.
"""

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, freeze
from .groups import Layout, Minima, Scale

CHOICES = range(8)
"""The steps that contexts may be distinguished by; a block says which."""
_ZERO_QUANTS = 1 << 13
_SPREAD_QUANTS = 1 << 15
"""Quants there should be for each context: its table takes up to 1.5 bytes per value. Real
tensors of 18 to 500 KB: contexts save 1.2 % of Q4_K, 1.1 % of Q2_K, 0.4 % of Q3_K, 0.2 % of
Q6_K; with the places of the peaks 0.9 % of Q4_0 and 0.7 % of Q8_0."""
_MOST = 255
_PEAK = 0
"""The lowest context, so that what is rare among the others is put together with them, not with
the peaks."""
_LOWEST_EXPONENT = 96


def choose_step(layout: Layout, quants: int) -> int:
    """Returns how finely to tell the contexts of so many quants apart, 0 to 7."""
    if isinstance(layout.guide, Minima):
        values = 1 << sum(width for _, _, width in layout.planes[-1][0])
        return min(7, max(0, (8 * quants // (_ZERO_QUANTS * values)).bit_length() - 1))
    return min(3, max(0, (quants // _SPREAD_QUANTS).bit_length() - 1))


def find_contexts(
    layout: Layout, groups: Bytes, cut: list[Bytes], places: Bytes | None, step: int
) -> Bytes | None:
    """Returns the context of each quant, (n,) uint8, read-only; None where nothing tells it.

    ``groups``: (g, group_bytes) uint8 with all fields but the quants. ``cut``: their planes.
    ``places``: of `find_places`. ``step``: of `choose_step`.
    """
    guide = layout.guide
    if guide is None:
        return None
    if isinstance(guide, Minima):
        found = _find_zeros(guide, groups, cut, step)
    else:
        found = _find_spreads(guide, groups, cut, step)
    contexts = np.repeat(found.reshape(-1), guide.elements)
    if places is not None:
        contexts.reshape(-1, guide.elements)[np.arange(places.size), places] = _PEAK
    return freeze(contexts)


def find_places(layout: Layout, quants: Bytes) -> Bytes | None:
    """Returns the place of the peak in each run, (runs,) uint8, 0 where it has none; None for
    layouts without peaks."""
    if not isinstance(layout.guide, Scale) or not layout.guide.peaks:
        return None
    peaks = quants == layout.guide.peaks[0]
    for value in layout.guide.peaks[1:]:
        peaks |= quants == value
    return peaks.reshape(-1, layout.guide.elements).argmax(axis=1).astype(np.uint8)


def pack_places(places: Bytes) -> Bytes:
    """Packs places below 32 into 5 bits each: any is as likely as any other, so that a table
    would save nothing."""
    bits = np.unpackbits(places[:, None], axis=1, bitorder="little")[:, :5]
    return freeze(np.packbits(bits, bitorder="little"))


def unpack_places(packed: Bytes, count: int) -> Bytes:
    """Mirrors `pack_places`."""
    bits = np.unpackbits(packed, count=5 * count, bitorder="little").reshape(-1, 5)
    return np.packbits(bits, axis=1, bitorder="little").reshape(-1)


def _find_zeros(guide: Minima, groups: Bytes, cut: list[Bytes], step: int) -> NDArray[np.uint8]:
    """Where the zero lies among the quants of each run: minimum / scale, in 2**(step - 3) parts
    of a quant, clipped to what a byte takes."""
    scale, minimum = _read_f16(groups, guide.scale), _read_f16(groups, guide.minimum)
    shape = len(groups), -1
    with np.errstate(all="ignore"):
        zeros = minimum * cut[guide.minima].reshape(shape)
        zeros /= scale * cut[guide.scales].reshape(shape)
        zeros = np.nan_to_num(np.rint(zeros * 2.0 ** (step - 3)), nan=0, posinf=_MOST, neginf=0)
    return np.clip(zeros, 0, _MOST).astype(np.uint8)


def _find_spreads(guide: Scale, groups: Bytes, cut: list[Bytes], step: int) -> NDArray[np.uint8]:
    """The exponent of the scale of each run and the first ``step`` bits of its mantissa."""
    scale = np.nan_to_num(_read_f16(groups, guide.factor), nan=0, posinf=0, neginf=0)
    if guide.scales is not None:
        symbols = cut[guide.scales].reshape(len(groups), -1)
        scale = scale * (symbols.view(np.int8) if guide.zero == 0 else symbols - float(guide.zero))
    bits = scale.astype(np.float32).view(np.uint32) & 0x7FFF_FFFF
    spread = (bits >> (23 - step)).astype(np.int64) - (_LOWEST_EXPONENT << step)
    return np.clip(spread, _PEAK + 1, _MOST).astype(np.uint8)


def _read_f16(groups: Bytes, at: int) -> NDArray[np.float64]:
    return np.ascontiguousarray(groups[:, at : at + 2]).view("<f2").astype(np.float64)

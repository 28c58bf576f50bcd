"""Largest and least elements of groups of neighbours."""

from __future__ import annotations

import numpy as np

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..floats.formats import Floats


def find_peaks(source: Floats, group: int, count: int) -> Floats:
    """Returns the largest magnitude in each of `count` groups, (count,) float32, zero for an empty
    one; NaNs count for nothing."""
    low, high = find_ends(source, group, count)
    with np.errstate(invalid="ignore"):
        peaks = np.maximum(-low, high)
    return freeze(np.where(low > high, np.float32(0), peaks).astype(np.float32))


def find_ends(source: Floats, group: int, count: int) -> tuple[Floats, Floats]:
    """Returns the least and the largest element in each of `count` groups, (count,) float32 each;
    infinity and minus infinity for a group without numbers."""
    low, high = np.empty(count, np.float32), np.empty(count, np.float32)
    ends_kernel(source, group, low, high)
    return freeze(low), freeze(high)


@njit(nogil=True, cache=True)
def ends_kernel(source, group, low, high):
    """Writes the ends of each group of (n,) float32; the last one may be short."""
    for place in range(low.size):
        begin = min(place * group, source.size)
        stop = min(begin + group, source.size)
        least, most = np.float32(np.inf), np.float32(-np.inf)
        for i in range(begin, stop):
            value = source[i]
            least = value if value < least else least
            most = value if value > most else most
        low[place], high[place] = least, most

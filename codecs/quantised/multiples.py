"""Elements of a wide float that are small integers times a scale: what symbols and scales stand
for (FORMAT.md, "Multiples").

A symbol is twice a magnitude of at most 127, plus one where the sign is set; so zeros have a sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, Words, freeze
from ..errors import CorruptFrame
from ..jit.cached import njit

MOST_MULTIPLE = 127
TIMES, OVER = range(2)
"""Rules: an element is its integer times the scale, or divided by it."""
WIDTHS = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}
"""The dtypes whose elements may be multiples."""
_NOT_FINITE = np.uint32(0x7F800000)


def fill(
    symbols: Bytes, scales: NDArray[np.uint32], rule: int, group: int, phase: int, dtype: str
) -> Words:
    """Returns the elements, (n,) words of ``dtype``, read-only, that symbols (n,) stand for.

    ``scales``: the bits of a float32 for each group of ``group`` elements, of which the first lacks
    ``phase``. Raises CorruptFrame for a scale that is negative or not finite, or 0 to divide by.
    """
    if bool((scales >= _NOT_FINITE).any()) or (rule == OVER and not scales.all()):
        raise CorruptFrame("a block has a scale that no multiples have")
    values = np.empty(symbols.size, np.float32)
    fill_kernel(symbols, freeze(scales.view(np.float32)), rule == OVER, group, phase, values)
    return freeze(round_values(values, dtype))


def round_values(values: NDArray[np.float32], dtype: str) -> Words:
    """Returns (n,) float32, none of them NaN, as words of ``dtype``, rounded to nearest even."""
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    words = values.view(np.uint32)
    if dtype == "F32":
        return words
    return ((words + np.uint32(0x7FFF) + (words >> 16 & np.uint32(1))) >> 16).astype(np.uint16)


def count_groups(count: int, group: int, phase: int) -> int:
    """Returns how many groups ``count`` elements lie in."""
    return -(-(count + phase) // group)


@njit(nogil=True, cache=True, error_model="numpy")
def fill_kernel(symbols, scales, divided, group, phase, out):
    """Writes to ``out`` (n,) float32 the integers of ``symbols`` (n,) uint8 times the scale of
    their group, or divided by it."""
    begin, end = 0, group - phase
    for place in range(scales.size):
        scale = scales[place]
        for i in range(begin, min(end, symbols.size)):
            integer = np.float32(symbols[i] >> np.uint8(1))
            value = integer / scale if divided else integer * scale
            out[i] = -value if symbols[i] & np.uint8(1) else value
        begin, end = end, end + group

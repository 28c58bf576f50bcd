"""Restores 16-bit elements whose symbols have prefix codes (FORMAT.md, "Differences").

In chunks that stay in the first cache: contexts, symbols, elements, of which the few that take a
byte from the side come last.
"""

import numpy as np

from ..jit.cached import IS_COMPILED, njit
from ..prefix import row_kernels
from ..prefix.loops import ROW_LANES, lowest_bit
from ..prefix.row_kernels import CHUNK
from . import difference_prefixed_steps as prefixed_steps
from .difference_kernels import (
    LIMIT,
    MOST_ORIGIN,
    ORIGIN,
    REACH,
    XORED,
    contexts_kernel,
)
from .difference_prefixed_steps import STEP
from .scales import spread_part_kernel


@njit(nogil=True, cache=True)
def restore_kernel(
    path,
    source,
    base,
    rows,
    columns,
    length,
    phase,
    room,
    symbols,
    spec,
    lengths,
    entries,
    lower,
    out,
):
    """Decodes the symbols and the elements they stand for; returns how many lower bytes they took,
    or -1 for a stream that no encoder writes.

    ``rows``, ``columns``, ``length``, ``phase``: see ``scales.Scales``. ``room``: (2, CHUNK)
    uint8, ``symbols``: (CHUNK,) uint16, ``lengths``: (256,) uint8 and ``entries``: (tables, 2048)
    uint16, scratch. ``lower``: (n + LOWER_SLACK,) uint8. The others: see ``difference_kernels``.
    """
    places, ends = np.zeros(ROW_LANES, np.int64), np.zeros(ROW_LANES, np.int64)
    at = row_kernels.parse_rows_kernel(source, 0, lengths, entries)
    if at < 0:
        return -1
    at = row_kernels.open_rows_kernel(source, at, places, ends)
    if at != source.size:
        return -1
    is_short = abs(spec[ORIGIN]) <= MOST_ORIGIN and IS_COMPILED
    wide = np.zeros(CHUNK // STEP, np.uint32)
    taken = 0
    spread, contexts = room[0], room[1]
    for begin in range(0, out.size, CHUNK):
        stop = min(begin + CHUNK, out.size)
        some = base[begin:stop]
        found = symbols[: stop - begin]
        spread_part_kernel(rows, columns, length, phase, begin, stop, spread)
        steps = found.size // STEP if is_short else 0
        if steps > 0:
            prefixed_steps.find_contexts(some, spread, spec, steps, contexts)
        contexts_kernel(
            some[STEP * steps :], spread[STEP * steps :], spec, contexts[STEP * steps :]
        )
        row_kernels.take_rows_kernel(source, entries, places, contexts, found)
        words = out[begin:stop]
        if path == 2:
            taken += prefixed_steps.place_avx512(some, found, spec, steps, lower, taken, words)
        elif path == 1:
            taken += prefixed_steps.place_avx2(some, found, spec, steps, lower, taken, words)
        elif steps > 0:
            prefixed_steps.place_near(some, found, spec, steps, words, wide)
            taken = _place_wide_kernel(some, found, spec, lower, taken, steps, wide, words)
        taken = _place_rest_kernel(some, found, spec, lower, taken, STEP * steps, words)
    return taken if row_kernels.are_rows_used_kernel(places, ends) else -1


@njit(nogil=True, cache=True)
def _widen(word, symbol, spec, byte):
    """Returns the element that a wide symbol, as it was found, and the byte it takes make of the
    base ``word``.
    """
    v = np.int32(symbol >> np.uint16(8)) - np.int32(2 * spec[LIMIT] + 1)
    upper = (np.int32(word) & np.int32(0xFF00)) + ((v >> 1) - spec[REACH]) * 256
    return np.uint16((upper + (v & 1) * 0x8080 + np.int32(byte)) & 0xFFFF)


@njit(nogil=True, cache=True)
def _place_wide_kernel(base, symbols, spec, lower, taken, steps, wide, out):
    """Writes the elements of wide symbols, of which ``wide`` (steps,) uint32 has a bit set; returns
    where in ``lower`` the next byte is.
    """
    for step in range(steps):
        left = np.uint64(wide[step])
        while left != 0:
            i = STEP * step + lowest_bit(left)
            out[i] = _widen(base[i], symbols[i], spec, lower[taken])
            taken += 1
            left &= left - np.uint64(1)
    return taken


@njit(nogil=True, cache=True)
def _place_rest_kernel(base, symbols, spec, lower, taken, begin, out):
    """Writes the elements from ``begin`` on in a plain loop; returns where in ``lower`` the next
    byte is.
    """
    limit, xored = np.int32(spec[LIMIT]), spec[XORED] != 0
    for i in range(begin, out.size):
        a, symbol = np.int32(base[i]), np.int32(symbols[i] >> np.uint16(8))
        if symbol > 2 * limit:
            out[i] = _widen(base[i], symbols[i], spec, lower[taken])
            taken += 1
        else:
            out[i] = np.uint16((a ^ symbol if xored else a + symbol - limit) & 0xFFFF)
    return taken

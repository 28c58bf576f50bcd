"""Chooses which frequency table each symbol of a plane is coded with (FORMAT.md, "Contexts").

Either by the symbol at the same place in the plane before (the mantissa leans one way where the
exponent is large), or by a class given to every group of 512 symbols (rows of a matrix differ in
scale).
"""

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, freeze
from ..jit.cached import njit
from . import tables

MAX_ROWS = 64
"""Tables a stream may name: bounds what a decoder allocates, 16 KiB for each."""
GROUP = 512
CLASSES = 8
"""Whole MiniLM in bf16, bits per exponent with the classes: groups of 256 symbols 2.5812, 512
2.5805, 1024 2.5826 with 8 classes; 512 with 4 classes 2.5825, with 16 2.5806; one table per block
2.609."""
_LEAST_SHARE = 64
"""A value of the plane before that holds less than 1/64 of it shares the context of its
neighbours.
"""

_TABLE_BITS, _SYMBOL_BITS = 32, 14
"""What a table costs about, and each symbol in it, when contexts are merged."""


@njit(nogil=True, cache=True)
def map_kernel(symbols, table, out):
    """Writes ``table[symbols[i]]`` to ``out[i]``: ``symbols``, ``out`` (n,) uint8, ``table``
    (256,) uint8.
    """
    for i in range(symbols.size):
        out[i] = table[symbols[i]]


def choose_cuts(previous: Bytes) -> Bytes:
    """Returns the values at which a new context begins, ascending, at most 63 of them."""
    counts = np.bincount(previous[:: max(1, previous.size >> 16)], minlength=256)
    least = int(counts.sum()) // _LEAST_SHARE + 1
    cuts = []
    gathered = 0
    for value in range(255):
        gathered += int(counts[value])
        if gathered >= least:
            cuts.append(value + 1)
            gathered = 0
    return np.array(cuts[: MAX_ROWS - 1], np.uint8)


def contexts_by_previous(previous: Bytes, cuts: Bytes) -> Bytes:
    """Returns for each symbol the number of cuts that the symbol before does not lie below: (n,)
    uint8.
    """
    table = np.zeros(256, np.uint8)
    for cut in cuts.tolist():
        table[cut:] += 1
    out = np.empty(previous.size, np.uint8)
    map_kernel(previous, freeze(table), out)
    return freeze(out)


def classify_groups(plane: Bytes) -> Bytes:
    """Returns the class of every group of 512 symbols: ``CLASSES`` of equal size, by the mean of
    the group.
    """
    whole = plane.size // GROUP
    means = [plane[: whole * GROUP].reshape(whole, GROUP).sum(axis=1, dtype=np.int64)]
    if plane.size % GROUP:
        rest = plane[whole * GROUP :]
        means.append(np.array([int(rest.sum(dtype=np.int64)) * GROUP // rest.size]))
    sums = np.concatenate(means)
    limits = np.sort(sums)[np.arange(1, CLASSES) * sums.size // CLASSES]
    return np.searchsorted(limits, sums, side="right").astype(np.uint8)


def contexts_by_group(classes: Bytes, count: int) -> Bytes:
    """Returns the class of each of ``count`` symbols from that of its group: (count,) uint8."""
    return freeze(np.repeat(classes, GROUP)[:count])


def merge_contexts(counts: NDArray[np.uint32]) -> Bytes:
    """Returns the values at which a new context begins, ascending, at most 63 of them, so that
    tables and symbols take little.

    ``counts``: (256, 256) uint32, how often each symbol occurs beside each value of a guide;
    overwritten. Neighbours are merged as long as that pays, those that gain most first.
    """
    cuts = np.empty(256, np.uint8)
    found = merge_kernel(counts, tables.COSTS, MAX_ROWS, cuts)
    return cuts[:found]


@njit(nogil=True, cache=True)
def _times_log2(count, costs):
    """Returns ``count`` times its logarithm to base 2, in 1/65536, both of them int64."""
    shift = np.int64(0)
    while count >> shift > tables.SCALE:
        shift += 1
    log2 = tables.SCALE_BITS + shift
    return count * (log2 * tables.ONE_BIT - costs[count >> shift])


@njit(nogil=True, cache=True)
def _price_kernel(counts, row, other, costs):
    """Returns the price of two rows with one table; of one where both are the same."""
    total, price = np.int64(0), np.int64(_TABLE_BITS * tables.ONE_BIT)
    for s in range(256):
        count = np.int64(counts[row, s])
        if other != row:
            count += np.int64(counts[other, s])
        if count > 0:
            total += count
            price += _SYMBOL_BITS * tables.ONE_BIT - _times_log2(count, costs)
    return price + _times_log2(total, costs) if total > 0 else price


@njit(nogil=True, cache=True)
def merge_kernel(counts, costs, most, cuts):
    """Merges neighbouring rows of ``counts``, (256, 256) uint32, overwritten, until there are at
    most ``most`` and no merging pays.

    ``costs``: ``tables.COSTS``. ``cuts``: (256,) uint8; the first value of each row but the first
    is written. Returns how many these are.
    """
    rows = np.arange(256)
    prices, gains = np.empty(256, np.int64), np.empty(256, np.int64)
    for i in range(256):
        prices[i] = _price_kernel(counts, i, i, costs)
    for i in range(255):
        gains[i] = prices[i] + prices[i + 1] - _price_kernel(counts, i, i + 1, costs)
    left = 256
    while left > 1:
        best = 0
        for i in range(1, left - 1):
            best = i if gains[i] > gains[best] else best
        if gains[best] < 0 and left <= most:
            break
        for s in range(256):
            counts[rows[best], s] += counts[rows[best + 1], s]
        prices[best] += prices[best + 1] - gains[best]
        for i in range(best + 1, left - 1):
            rows[i], prices[i], gains[i] = rows[i + 1], prices[i + 1], gains[i + 1]
        left -= 1
        for i in range(max(0, best - 1), min(best + 1, left - 1)):
            together = _price_kernel(counts, rows[i], rows[i + 1], costs)
            gains[i] = prices[i] + prices[i + 1] - together
    for i in range(1, left):
        cuts[i - 1] = rows[i]
    return left - 1

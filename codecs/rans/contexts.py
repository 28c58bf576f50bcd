"""Chooses which frequency table each symbol of a plane is coded with (FORMAT.md, "Contexts").

Either by the symbol at the same place in the plane before (the mantissa leans one way where the
exponent is large), or by a class given to every group of 512 symbols (rows of a matrix differ in
scale).
"""

import numpy as np
from numba import njit

from ..buffers import Bytes, freeze

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

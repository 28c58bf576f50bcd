"""Tables of few symbols, small enough for vector registers: no loop that uses them has to gather.

They change nothing in what is coded. All kernels allocate nothing and check nothing; the sizes
they need are in their docstrings.
"""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def fold_starts_kernel(starts):
    """Moves the entries of ``starts`` (256,) uint32 to its first 32 places, by symbol modulo 32.

    Returns False, with nothing moved, where two symbols would meet in a place.
    """
    taken = np.uint32(0)
    for s in range(256):
        if starts[s] & np.uint32(4095):
            place = np.uint32(1) << np.uint32(s & 31)
            if taken & place:
                return False
            taken |= place
    for s in range(32, 256):
        if starts[s] & np.uint32(4095):
            starts[s & 31] = starts[s]
    return True


@njit(nogil=True, cache=True)
def fold_slots_kernel(freqs, folded):
    """Builds a table that finds a slot's symbol without memory; returns whether that is possible.

    ``freqs``: (256,) uint16 that sum to 4096. ``folded``: (128,) uint32, written: 128 bytes for
    the buckets of 32 slots, 128 bytes for the first and last 64 slots one by one, then for each
    of 32 ranks the last slot of its symbol, and the entry symbol << 24 | start << 12 | frequency.
    Ranks number the symbols present. A bucket's byte is the rank of its first slot, or
    128 where the bytes of single slots serve. Not possible for more than 32 symbols, or where
    three meet in a bucket.
    """
    present = 0
    for s in range(256):
        present += freqs[s] > 0
    if present > 32:
        return False
    for i in range(96):
        folded[i] = np.uint32(4096)
    for i in range(64):
        folded[i] = 0
    rank = np.uint32(0)
    start = np.int64(0)
    crowded_bucket = np.int64(-1)
    for s in range(256):
        if freqs[s] == 0:
            continue
        f = np.int64(freqs[s])
        folded[96 + rank] = np.uint32((s << 24) | (start << 12) | f)
        folded[64 + rank] = start + f - 1
        for slot in range(start, start + f):
            if slot < 64 or slot >= 4032:
                place = (slot & 63) | ((slot >> 5) & 64)
                folded[32 + place // 4] |= rank << np.uint32(8 * (place % 4))
                rank_or_flag = np.uint32(128)
            else:
                rank_or_flag = rank
            if slot % 32 == 0:
                bucket = slot // 32
                folded[bucket // 4] |= rank_or_flag << np.uint32(8 * (bucket % 4))
        end = start + f
        if 64 < end < 4032 and end % 32 != 0:
            if end // 32 == crowded_bucket:
                return False
            crowded_bucket = end // 32
        start = end
        rank += np.uint32(1)
    return True

"""Tables of few symbols, small enough for vector registers: no loop that uses them has to gather.

They change nothing in what is coded. All kernels allocate nothing and check nothing; the sizes
they need are in their docstrings.
"""

import numpy as np

from ..jit.cached import njit


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
def fold_slots_kernel(freqs, folded):  # noqa: C901 (one kernel is faster)
    """Builds a table that finds a slot's symbol without memory; returns whether that is possible.

    ``freqs``: (256,) uint16 that sum to 4096. ``folded``: (256,) uint16, written: 128 bytes for
    the buckets of 32 slots, 128 bytes for the first and last 64 slots one by one, then for each
    of 32 ranks the last slot of its symbol, its frequency, its first slot, and the symbol times
    256. Ranks number the symbols present. A bucket's byte is the rank of its first slot, or 128
    where the bytes of single slots serve. Not possible for more than 32 symbols, or where three
    meet in a bucket.
    """
    present = 0
    for s in range(256):
        present += freqs[s] > 0
    if present > 32:
        return False
    for i in range(256):
        folded[i] = 0
    lasts, frequencies, starts = folded[128:160], folded[160:192], folded[192:224]
    symbols = folded[224:]
    for i in range(32):
        lasts[i] = 4096
    rank = np.int64(0)
    start = np.int64(0)
    crowded_bucket = np.int64(-1)
    for s in range(256):
        if freqs[s] == 0:
            continue
        end = start + np.int64(freqs[s])
        lasts[rank], frequencies[rank], starts[rank], symbols[rank] = (
            end - 1,
            freqs[s],
            start,
            s << 8,
        )
        for bucket in range((start + 31) // 32, (end + 31) // 32):
            is_middle = 2 <= bucket < 126
            folded[bucket // 2] |= (rank if is_middle else 128) << (8 * (bucket % 2))
        for slot in range(start, min(end, 64)):
            folded[64 + slot // 2] |= rank << (8 * (slot % 2))
        for slot in range(max(start, 4032), end):
            folded[64 - 1984 + slot // 2] |= rank << (8 * (slot % 2))
        if 64 < end < 4032 and end % 32 != 0:
            if end // 32 == crowded_bucket:
                return False
            crowded_bucket = end // 32
        start = end
        rank += 1
    return True

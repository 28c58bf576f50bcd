"""The kernel of content-defined chunking: cuts where the last 64 bytes hash to a pattern.

A cut depends on nothing but the bytes just before it, so an insertion moves the cuts behind it
along and the chunks there stay the same. Source: Xia et al., "FastCDC: a fast and efficient
content-defined chunking approach for data deduplication", USENIX ATC 2016: a gear hash, no cut
below the least size, and a pattern that is rarer before the average size than after it.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numba import njit

# Random words from a hash of a text, so that they are the same for ever.
GEAR = np.frombuffer(blake3(b"weightvault gear").digest(length=2048), "<u8").astype(np.uint64)
GEAR.flags.writeable = False


@njit(nogil=True, cache=True)
def cut_kernel(data, final, gear, least, average, most, rare, frequent, cuts):
    """Finds the ends of the chunks that `data` starts with; returns how many it found.

    `data`: (n,) uint8. `final`: nothing follows, so the rest is a chunk too; otherwise up to
    `most` bytes are left over. `gear`: (256,) uint64. `least` <= `average` <= `most`: bytes of a
    chunk, at least 4 apart. `rare`, `frequent`: uint64 masks that the hash is tested with up to
    and beyond `average`. `cuts`: (n // least + 1,) int64, written.
    """
    found = 0
    begin = 0
    while begin < data.size and (final or data.size - begin >= most):
        limit = min(data.size, begin + most)
        middle = min(limit, begin + average)
        hashed = np.uint64(0)
        i = begin + least
        end = limit
        # The hash forgets a byte after 64 more: what lies further back need not be hashed.
        for k in range(max(begin, i - 64), min(i, limit)):
            hashed = (hashed << np.uint64(1)) + gear[data[k]]
        done = i >= limit
        while not done and i < middle:
            hashed = (hashed << np.uint64(1)) + gear[data[i]]
            i += 1
            if hashed & rare == np.uint64(0):
                end = i
                done = True
        while not done and i < limit:
            hashed = (hashed << np.uint64(1)) + gear[data[i]]
            i += 1
            if hashed & frequent == np.uint64(0):
                end = i
                done = True
        cuts[found] = end
        found += 1
        begin = end
    return found

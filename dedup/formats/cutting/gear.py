"""The kernel of content-defined chunking: cuts where the last 64 bytes hash to a pattern.

A cut depends on nothing but the bytes just before it, so an insertion moves the cuts behind it
along and the chunks there stay the same. Source: Xia et al., "FastCDC: a fast and efficient
content-defined chunking approach for data deduplication", USENIX ATC 2016: a gear hash, no cut
below the least size, and a pattern that is rarer before the average size than after it.

The hash waits for its own last value at every byte, and a processor for nothing else if it has four
of them to go on with: it runs over the four quarters of a buffer at once, at 5 GB/s of Zen 5 where
one chunk after the other came to 2.4, and marks where it has the more frequent pattern. Chunks are
cut by these marks.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ....codecs.jit.cached import njit

# Random words from a hash of a text, so that they are the same for ever.
GEAR = np.frombuffer(blake3(b"weightvault gear").digest(length=2048), "<u8").astype(np.uint64)
GEAR.flags.writeable = False


@njit(nogil=True, cache=True)
def mark_kernel(data, gear, limit, marks):
    """Marks the bytes where the hash of the last 64 is below `limit`.

    `data`: (n,) uint8. `gear`: (256,) uint64. `limit`: uint64. `marks`: (n // 64 + 1,) uint64,
    zeros; for byte i, bit i mod 64 of word i div 64 is set. What the first 63 get means nothing.
    """
    quarter = data.size // 16 * 4
    first, second = data[:quarter], data[quarter : 2 * quarter]
    third, fourth = data[2 * quarter : 3 * quarter], data[3 * quarter :]
    a = np.uint64(0)
    b = _hash_kernel(data, gear, quarter)
    c = _hash_kernel(data, gear, 2 * quarter)
    d = _hash_kernel(data, gear, 3 * quarter)
    for start in range(0, quarter, 4):
        # Of known length, so that it is unrolled.
        for step in range(4):
            i = start + step
            a = (a << np.uint64(1)) + gear[first[i]]
            if a < limit:
                _mark_kernel(marks, np.uint64(i))
            b = (b << np.uint64(1)) + gear[second[i]]
            if b < limit:
                _mark_kernel(marks, np.uint64(quarter + i))
            c = (c << np.uint64(1)) + gear[third[i]]
            if c < limit:
                _mark_kernel(marks, np.uint64(2 * quarter + i))
            d = (d << np.uint64(1)) + gear[fourth[i]]
            if d < limit:
                _mark_kernel(marks, np.uint64(3 * quarter + i))
    for i in range(quarter, fourth.size):
        d = (d << np.uint64(1)) + gear[fourth[i]]
        if d < limit:
            _mark_kernel(marks, np.uint64(3 * quarter + i))


@njit(nogil=True, cache=True)
def cut_kernel(data, final, gear, marks, least, average, most, rare, cuts):
    """Finds the ends of the chunks that `data` starts with; returns how many it found.

    `data`: (n,) uint8. `final`: nothing follows, so the rest is a chunk too; otherwise up to
    `most` bytes are left over. `gear`, `marks`: as `mark_kernel` has them. 64 <= `least` <=
    `average` <= `most`: bytes of a chunk; up to `average` its hash must be below `rare`, uint64.
    `cuts`: (n // least + 1,) int64, written.
    """
    found = 0
    begin = 0
    while begin < data.size and (final or data.size - begin >= most):
        limit = min(data.size, begin + most)
        middle = min(limit, begin + average)
        last = _find_rare_kernel(data, gear, marks, rare, begin + least, middle)
        if last >= middle:
            last = _find_kernel(marks, max(begin + least, middle), limit)
        begin = min(last + 1, limit)
        cuts[found] = begin
        found += 1
    return found


def cut(
    data: NDArray[np.uint8], sizes: tuple[int, int, int], rare: int, frequent: int, *, final: bool
) -> NDArray[np.int64]:
    """Returns the ends of the chunks that `data`, (n,), starts with.

    `sizes`: the least, average and most bytes of a chunk, see `cut_kernel`. The hash at an end is
    below `rare` up to the average, and below `frequent` beyond.
    """
    marks = np.zeros(data.size // 64 + 1, np.uint64)
    cuts = np.empty(data.size // sizes[0] + 1, np.int64)
    mark_kernel(data, GEAR, np.uint64(frequent), marks)
    return cuts[: cut_kernel(data, final, GEAR, marks, *sizes, np.uint64(rare), cuts)]


@njit(nogil=True)
def _find_rare_kernel(data, gear, marks, rare, start, stop):
    """Returns the first marked place from `start` on whose hash is below `rare`, or `stop`."""
    hashed = np.uint64(0)
    # Up to where it is hashed: where one mark follows another, 64 bytes for each would be too many.
    done = 0
    place = _find_kernel(marks, start, stop)
    while place < stop:
        for i in range(max(done, place - 63), place + 1):
            hashed = (hashed << np.uint64(1)) + gear[data[i]]
        if hashed < rare:
            return place
        done = place + 1
        place = _find_kernel(marks, done, stop)
    return stop


@njit(nogil=True)
def _hash_kernel(data, gear, stop):
    """Hashes the 64 bytes before `stop`; what lies further back is forgotten."""
    hashed = np.uint64(0)
    for i in range(max(0, stop - 64), stop):
        hashed = (hashed << np.uint64(1)) + gear[data[i]]
    return hashed


@njit(nogil=True)
def _mark_kernel(marks, i):
    marks[i >> np.uint64(6)] |= np.uint64(1) << (i & np.uint64(63))


@njit(nogil=True)
def _find_kernel(marks, start, stop):
    """Returns the first place from `start` on that is marked, `stop` if none before it is."""
    while start < stop:
        word = marks[start >> 6] >> np.uint64(start & 63)
        if word != np.uint64(0):
            while word & np.uint64(1) == np.uint64(0):
                word >>= np.uint64(1)
                start += 1
            return min(start, stop)
        start = (start | 63) + 1
    return stop

"""Code lengths of length-limited prefix codes: chosen, packed and parsed (FORMAT.md, "Prefix
codes").

Lengths alone make a code: it is canonical, shorter codes before longer ones, equal lengths in the
order of their symbols. Every code is complete, so that any bits decode to something. Kernels
allocate nothing that grows with their input and check nothing but what they parse.
"""

import numpy as np

from ..jit.cached import njit

PLANE_BITS = 12
"""The longest code of a plane. Exponents of MiniLM in bf16 decode at 2.1 symbols a nanosecond with
tables of 2^12 entries, at 1.9 with 2^11."""
ROW_BITS = 11
"""The longest code of a row: 2^11 entries of two bytes for each context."""
MAX_TABLE_BYTES = 3 + 128
"""The most that the lengths of one code take: tag, range, 256 nibbles."""
SAME, OWN = range(2)
"""Tags: the code before it again, and lengths of its own."""


@njit(nogil=True, cache=True)
def _sort_used_kernel(counts, keys):
    """Writes the symbols that occur to ``keys`` (256,) int64, rarest first; returns how many there
    are. A shell sort: of 256 numbers it makes a tenth of the moves of an insertion sort.
    """
    used = 0
    for s in range(256):
        if counts[s] > 0:
            keys[used] = (np.int64(counts[s]) << 8) | s
            used += 1
    for gap in (57, 23, 10, 4, 1):
        for i in range(gap, used):
            key = keys[i]
            place = i
            while place >= gap and keys[place - gap] > key:
                keys[place] = keys[place - gap]
                place -= gap
            keys[place] = key
    for i in range(used):
        keys[i] &= 255
    return used


@njit(nogil=True, cache=True)
def _merge_kernel(leaves, packages, merged, is_leaf):
    """Merges two sorted lists of weights; tells of each whether it is a leaf. Returns how many
    there are.
    """
    leaf, package = 0, 0
    for size in range(leaves.size + packages.size):
        takes_leaf = package >= packages.size
        if not takes_leaf and leaf < leaves.size:
            takes_leaf = leaves[leaf] <= packages[package]
        is_leaf[size] = takes_leaf
        merged[size] = leaves[leaf] if takes_leaf else packages[package]
        leaf += takes_leaf
        package += not takes_leaf
    return leaves.size + packages.size


@njit(nogil=True, cache=True)
def fit_kernel(counts, limit, room, lengths):
    """Finds the best code lengths of at most ``limit`` bits for ``counts`` (256,) uint32.

    ``room``: (MAX_ROOM,) int64, scratch. ``lengths``: (256,) uint8, written; 0 for a symbol that
    does not occur, but where fewer than two do, others are given codes of one bit.
    (Package-merge: L. L. Larmore and D. S. Hirschberg, JACM 37(3), 1990.)
    """
    order, leaves, before, now = room[:256], room[256:512], room[512:1024], room[1024:1536]
    is_leaf = room[1536:].view(np.uint8)
    for s in range(256):
        lengths[s] = 0
    used = _sort_used_kernel(counts, order)
    if used < 2:
        only = order[0] if used else np.int64(0)
        lengths[only] = 1
        lengths[only ^ 1] = 1
        return
    for i in range(used):
        leaves[i] = counts[order[i]]
    packages = 0
    for level in range(limit):
        size = _merge_kernel(leaves[:used], before[:packages], now, is_leaf[512 * level :])
        packages = size // 2
        for i in range(packages):
            before[i] = now[2 * i] + now[2 * i + 1]
    taken = 2 * used - 2
    for level in range(limit - 1, -1, -1):
        leaf = 0
        for i in range(taken):
            leaf += is_leaf[512 * level + i]
        for i in range(leaf):
            lengths[order[i]] += np.uint8(1)
        taken = 2 * (taken - leaf)


MAX_ROOM = 1536 + PLANE_BITS * 512 // 8
"""The scratch of ``fit_kernel``, in numbers of 8 bytes."""


@njit(nogil=True, cache=True)
def price_kernel(counts, lengths):
    """Returns the bits that ``counts`` (256,) take; -1 where a symbol that occurs has no code."""
    price = np.int64(0)
    for s in range(256):
        if counts[s] > 0 and lengths[s] == 0:
            return np.int64(-1)
        price += np.int64(counts[s]) * np.int64(lengths[s])
    return price


@njit(nogil=True, cache=True)
def packed_bytes_kernel(lengths):
    """Returns what ``pack_kernel`` writes for lengths of their own."""
    first, last = 0, 255
    while lengths[first] == 0:
        first += 1
    while lengths[last] == 0:
        last -= 1
    return 3 + (last - first + 2) // 2


@njit(nogil=True, cache=True)
def choose_kernel(counts, limit, room, spare, lengths, tags):
    """Chooses a code for each row of ``counts`` (rows, 256) uint32; returns the bits of all symbols
    and tables.

    ``room``: see ``fit_kernel``. ``spare``: (256,) uint8, scratch. ``lengths``: (rows, 256) uint8
    and ``tags``: (rows,) uint8, written.
    """
    total = np.int64(0)
    for row in range(counts.shape[0]):
        used = np.int64(0)
        for s in range(256):
            used += np.int64(counts[row, s])
        best = np.int64(-1)
        if row > 0:
            for s in range(256):
                lengths[row, s] = lengths[row - 1, s]
            tags[row] = SAME
            best = price_kernel(counts[row], lengths[row])
        if best < 0 or used > 0:
            fit_kernel(counts[row], limit, room, spare)
            own = price_kernel(counts[row], spare) + 8 * np.int64(packed_bytes_kernel(spare) - 1)
            if best < 0 or own < best:
                best = own
                for s in range(256):
                    lengths[row, s] = spare[s]
                tags[row] = OWN
        total += best + 8
    return total


@njit(nogil=True, cache=True)
def pack_kernel(lengths, tag, packed, at):
    """Writes one table to ``packed`` (uint8) from ``at`` on; returns where it ends."""
    packed[at] = tag
    if tag == SAME:
        return at + 1
    first, last = 0, 255
    while lengths[first] == 0:
        first += 1
    while lengths[last] == 0:
        last -= 1
    packed[at + 1], packed[at + 2] = first, last
    at += 3
    for s in range(first, last + 1, 2):
        upper = lengths[s + 1] if s < last else np.uint8(0)
        packed[at] = lengths[s] | (upper << np.uint8(4))
        at += 1
    return at


@njit(nogil=True, cache=True)
def parse_kernel(source, at, limit, lengths):
    """Parses one table; returns where it ends, or -1 where no writer would have written it.

    ``lengths``: (256,) uint8, those of the table before; overwritten by lengths of its own.
    """
    if at >= source.size or source[at] > OWN:
        return -1
    if source[at] == SAME:
        return at + 1
    if at + 3 > source.size or source[at + 1] > source[at + 2]:
        return -1
    first, last = np.int64(source[at + 1]), np.int64(source[at + 2])
    at += 3
    if at + (last - first + 2) // 2 > source.size:
        return -1
    for s in range(256):
        lengths[s] = 0
    filled = np.int64(0)
    for s in range(first, last + 1):
        length = (np.int64(source[at + (s - first) // 2]) >> (4 * ((s - first) & 1))) & 15
        if length > limit:
            return -1
        lengths[s] = length
        filled += (np.int64(1) << (limit - length)) if length > 0 else np.int64(0)
    if filled != np.int64(1) << limit:
        return -1
    if (last - first) & 1 == 0 and source[at + (last - first) // 2] > 15:
        return -1
    return at + (last - first + 2) // 2

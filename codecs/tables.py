"""Frequency tables of the entropy coder: count, normalise, price, pack, parse (FORMAT.md,
"Tables").

Everything that decides bytes is integer arithmetic, so that every machine writes the same frame.
All kernels allocate nothing and check nothing; the sizes they need are in their docstrings.
"""

import math

import numpy as np
from numba import njit

SCALE_BITS = 12
SCALE = 1 << SCALE_BITS
COST_ONE_BIT = 1 << 16
"""Prices are counted in 1/65536 of a bit."""
MAX_TABLE_BYTES = 3 + 128 + 384
"""The most that one packed table takes: tag, range, 256 nibbles, 256 times 12 bits."""

COSTS = np.array(
    [1 << 40] + [round((SCALE_BITS - math.log2(f)) * COST_ONE_BIT) for f in range(1, SCALE + 1)],
    dtype=np.int64,
)
"""``COSTS[f]``: price of one symbol of frequency f; prohibitive where the frequency is 0."""


@njit(nogil=True, cache=True)
def count_kernel(symbols, segment, counts):
    """Counts the symbols of each segment.

    ``symbols``: (n,) uint8. ``segment``: symbols per segment. ``counts``: (segments, 256) uint32,
    zeroed.
    """
    for index in range(counts.shape[0]):
        row = counts[index]
        begin = index * segment
        end = min(begin + segment, symbols.size)
        for i in range(begin, end):
            row[symbols[i]] += np.uint32(1)


@njit(nogil=True, cache=True)
def normalise_kernel(counts, total, freqs):
    """Scales counts to frequencies that sum to 4096, none of a present symbol below 1.

    ``counts``: (256,) uint32 with at least two symbols present, sum ``total``. ``freqs``: (256,)
    uint16, written. The rounding error goes, one unit at a time, where it changes the coded
    length least.
    """
    left = np.int64(SCALE)
    for s in range(256):
        count = np.int64(counts[s])
        f = (count * SCALE + total // 2) // total
        if count > 0 and f == 0:
            f = np.int64(1)
        if f == SCALE:
            f = np.int64(SCALE - 1)
        freqs[s] = f
        left -= f
    while left != 0:
        step = np.int64(1) if left > 0 else np.int64(-1)
        best = -1
        best_count = np.int64(0)
        best_weight = np.int64(1)
        for s in range(256):
            f = np.int64(freqs[s])
            if f == 0 or f + step == 0 or f + step == SCALE:
                continue
            weight = 2 * f + step
            gain = step * (np.int64(counts[s]) * best_weight - best_count * weight)
            if best < 0 or gain > 0:
                best = s
                best_count = np.int64(counts[s])
                best_weight = weight
        freqs[best] += step
        left -= step


@njit(nogil=True, cache=True)
def price_kernel(counts, freqs, costs):
    """Returns the price of ``counts`` (256,) uint32 coded with ``freqs`` (256,) uint16, in
    1/65536 bits.
    """
    price = np.int64(0)
    for s in range(256):
        if counts[s] > 0:
            price += np.int64(counts[s]) * costs[freqs[s]]
    return price


@njit(nogil=True, cache=True)
def _bit_length(value):
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@njit(nogil=True, cache=True)
def pack_table_kernel(freqs, out, at):
    """Packs a table at ``out[at:]`` (uint8, MAX_TABLE_BYTES free) and returns where it ends.

    ``freqs``: (256,) uint16 that sum to 4096.
    """
    first = 0
    while freqs[first] == 0:
        first += 1
    last = 255
    while freqs[last] == 0:
        last -= 1
    out[at] = 1
    out[at + 1] = first
    out[at + 2] = last
    nibbles = at + 3
    at = nibbles + (last - first + 2) // 2
    out[at - 1] = 0
    hold = np.uint32(0)
    held = 0
    for s in range(first, last + 1):
        f = np.uint32(freqs[s])
        bits = _bit_length(f)
        i = s - first
        if i & 1:
            out[nibbles + i // 2] |= np.uint8(bits << 4)
        else:
            out[nibbles + i // 2] = bits
        if bits > 1:
            hold |= np.uint32((f - (np.uint32(1) << np.uint32(bits - 1))) << np.uint32(held))
            held += bits - 1
        while held >= 8:
            out[at] = np.uint8(hold & np.uint32(255))
            at += 1
            hold >>= np.uint32(8)
            held -= 8
    if held > 0:
        out[at] = np.uint8(hold)
        at += 1
    return at


@njit(nogil=True, cache=True)
def parse_table_kernel(source, at, end, freqs):
    """Parses the table at ``source[at:end]`` into ``freqs`` (256,) uint16; returns where it ends,
    or -1.

    -1 means the table does not lie inside ``source[at:end]`` or does not sum to 4096. Reads
    nothing outside.
    """
    if at + 3 > end or source[at] != 1:
        return -1
    first = np.int64(source[at + 1])
    last = np.int64(source[at + 2])
    nibbles = at + 3
    at = nibbles + (last - first + 2) // 2
    if last < first or at > end:
        return -1
    for s in range(256):
        freqs[s] = 0
    hold = np.uint32(0)
    held = 0
    total = 0
    for i in range(last - first + 1):
        bits = np.int64(source[nibbles + i // 2] >> (4 * (i & 1))) & 15
        if bits == 0:
            continue
        if bits > SCALE_BITS:
            return -1
        while held < bits - 1:
            if at >= end:
                return -1
            hold |= np.uint32(source[at]) << np.uint32(held)
            at += 1
            held += 8
        top = np.uint32(1) << np.uint32(bits - 1)
        f = top | (hold & (top - np.uint32(1)))
        hold >>= np.uint32(bits - 1)
        held -= bits - 1
        freqs[first + i] = f
        total += np.int64(f)
    if total != SCALE:
        return -1
    return at


@njit(nogil=True, cache=True)
def spread_kernel(freqs, slots):
    """Builds the decoder's table: ``slots`` (4096,) uint32, entry = symbol << 24 | offset << 12 |
    frequency.

    ``freqs``: (256,) uint16 that sum to 4096. The offset is the slot's place within its symbol's
    range.
    """
    slot = 0
    for s in range(256):
        f = np.uint32(freqs[s])
        entry = (np.uint32(s) << np.uint32(24)) | f
        for offset in range(f):
            slots[slot] = entry | np.uint32(offset << 12)
            slot += 1


@njit(nogil=True, cache=True)
def plan_kernel(counts, costs, freqs, is_new, scratch):
    """Chooses a table per segment and returns the price of all symbols and tables, in 1/65536 bits.

    ``counts``: (segments, 256) uint32, two symbols present overall. ``costs``: ``COSTS``.
    ``freqs``: (segments, 256) uint16 and ``is_new``: (segments,) bool, both written. ``scratch``:
    (MAX_TABLE_BYTES,) uint8.
    """
    price = np.int64(0)
    for index in range(counts.shape[0]):
        row = counts[index].copy()
        total = np.int64(0)
        present = 0
        for s in range(256):
            total += np.int64(row[s])
            present += row[s] > 0
        if present == 1:
            # A frequency of 4096 does not fit its 12 bits: a neighbour that never occurs takes
            # one slot.
            for s in range(256):
                if row[s] > 0:
                    row[s] = 4095
                    row[s ^ 1] = 1
                    break
            normalise_kernel(row, 4096, freqs[index])
        else:
            normalise_kernel(row, total, freqs[index])
        packed_bytes = pack_table_kernel(freqs[index], scratch, 0)
        own = price_kernel(counts[index], freqs[index], costs) + np.int64(packed_bytes) * 8 * 65536
        is_new[index] = True
        if index > 0:
            shared = price_kernel(counts[index], freqs[index - 1], costs) + 8 * 65536
            if shared <= own:
                freqs[index] = freqs[index - 1]
                is_new[index] = False
                own = shared
        price += own
    return price


@njit(nogil=True, cache=True)
def pack_tables_kernel(freqs, is_new, out):
    """Packs the tables of all segments into ``out`` (segments * MAX_TABLE_BYTES,) uint8; returns
    their length.
    """
    at = 0
    for index in range(freqs.shape[0]):
        if is_new[index]:
            at = pack_table_kernel(freqs[index], out, at)
        else:
            out[at] = 0
            at += 1
    return at

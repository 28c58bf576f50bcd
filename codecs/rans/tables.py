"""Frequency tables of the entropy coder: count, normalise, price, pack, parse (FORMAT.md,
"Tables").

A table gives each of 256 symbols a frequency; they sum to 4096. It may be grouped: runs of 2^g
neighbouring symbols share one frequency, which is all that nearly flat planes need and costs a
fraction of the space. Everything that decides bytes is integer arithmetic, so that every machine
writes the same frame. All kernels allocate nothing and check nothing; the sizes they need are in
their docstrings.
"""

import math

import numpy as np

from ..jit.cached import njit

SCALE_BITS = 12
SCALE = 1 << SCALE_BITS
ONE_BIT = 1 << 16
"""Prices are counted in 1/65536 of a bit."""
GROUP_LOG2 = 4
"""The grouping that is tried beside none. Mantissa bytes of MiniLM in bf16 given the exponent
cost 7.9296 bits with 16 symbols sharing a frequency, 7.9284 with 8, 7.9291 with none; 16 take a
table of 20 bytes."""
SLOTS = SCALE + 128
"""Entries of a decoder's table: one for each slot, then the folded table."""
_AT_ONCE = 16
MAX_TABLE_BYTES = 3 + 128 + 384
"""The most that one packed table takes: tag, range, 256 nibbles, 256 times 12 bits."""

COSTS = np.array(
    [1 << 40] + [round((SCALE_BITS - math.log2(f)) * ONE_BIT) for f in range(1, SCALE + 1)],
    dtype=np.int64,
)
"""``COSTS[f]``: price of one symbol of frequency f; prohibitive where the frequency is 0."""


@njit(nogil=True, cache=True)
def count_kernel(symbols, segment, scratch, counts):
    """Counts the symbols of each segment.

    ``symbols``: (n,) uint8. ``segment``: symbols per segment, a multiple of 8. ``scratch``: (8,
    256) uint32. ``counts``: (segments, 256) uint32, written. Eight tables, because a counter that
    was just written is slow to read back and neighbouring symbols are often equal.
    """
    for index in range(counts.shape[0]):
        begin = index * segment
        end = min(begin + segment, symbols.size)
        for table in range(8):
            for s in range(256):
                scratch[table, s] = 0
        whole = begin + (end - begin) // 8 * 8
        words = symbols[begin:whole].view(np.uint64)
        for i in range(words.size):
            word = words[i]
            for table in range(8):
                scratch[table, (word >> np.uint64(8 * table)) & np.uint64(255)] += np.uint32(1)
        for i in range(whole, end):
            scratch[0, symbols[i]] += np.uint32(1)
        for s in range(256):
            total = np.uint32(0)
            for table in range(8):
                total += scratch[table, s]
            counts[index, s] = total


@njit(nogil=True, cache=True)
def count_contexts_kernel(symbols, contexts, counts):
    """Counts symbols by context: ``symbols``, ``contexts`` (n,) uint8; ``counts`` (contexts, 256)
    uint32, zeroed.
    """
    for i in range(symbols.size):
        counts[contexts[i], symbols[i]] += np.uint32(1)


@njit(nogil=True, cache=True)
def normalise_kernel(counts, size, scale, most, places, freqs):
    """Scales ``counts[:size]`` to frequencies that sum to ``scale``, none of a present symbol
    below 1.

    ``counts``: (256,) uint32, not all of ``counts[:size]`` zero. ``most``: bound of one frequency;
    where it is below ``scale``, at least two symbols are present. ``places``: (256,) uint8,
    scratch. ``freqs``: (256,) uint16, ``freqs[:size]`` written. The rounding error goes, one unit
    at a time, where it changes the coded length least: to the largest or smallest count per 2f + 1
    or 2f - 1, the first of equals.
    """
    total = np.uint64(0)
    present = 0
    for s in range(size):
        freqs[s] = 0
        places[present] = s
        present += counts[s] > 0
        total += np.uint64(counts[s])
    left = np.int64(scale)
    half = total // np.uint64(2)
    for i in range(present):
        s = places[i]
        f = np.int64((np.uint64(counts[s]) * np.uint64(scale) + half) // total)
        f = min(max(f, np.int64(1)), np.int64(most))
        freqs[s] = f
        left -= f
    while left != 0:
        step = np.int64(1) if left > 0 else np.int64(-1)
        best = -1
        best_count = np.int64(0)
        best_weight = np.int64(1)
        for i in range(present):
            s = places[i]
            f = np.int64(freqs[s])
            if f + step == 0 or f + step > most:
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
    """Returns the price of ``counts`` (256,) uint32 coded with ``freqs`` (256,) uint16; ``costs``
    is ``COSTS``.
    """
    price = np.int64(0)
    for s in range(256):
        if counts[s] > 0:
            price += np.int64(counts[s]) * costs[freqs[s]]
    return price


@njit(nogil=True, cache=True)
def fit_kernel(counts, group_log2, pooled, places, freqs):
    """Fits a table with groups of ``2**group_log2`` symbols to ``counts`` (256,) uint32 with any
    symbol present.

    ``pooled``: (256,) uint32 and ``places``: (256,) uint8 are scratch. ``freqs``: (256,) uint16,
    written.
    """
    size = 256 >> group_log2
    present = 0
    only = 0
    for g in range(size):
        pooled[g] = 0
        for s in range(g << group_log2, (g + 1) << group_log2):
            pooled[g] += counts[s]
        if pooled[g] > 0:
            present += 1
            only = g
    if present == 0:
        for g in range(size):
            pooled[g] = 1
    scale = SCALE >> group_log2
    most = scale
    if group_log2 == 0:
        # A frequency of 4096 does not fit 12 bits: a neighbour that never occurs takes one slot.
        most = scale - 1
        if present == 1:
            pooled[only] = scale - 1
            pooled[only ^ 1] = 1
    normalise_kernel(pooled, size, scale, most, places, freqs)
    for s in range(255, -1, -1):
        freqs[s] = freqs[s >> group_log2]


@njit(nogil=True, cache=True)
def choose_kernel(counts, costs, spare, pooled, packed, freqs, tags):
    """Chooses a table for each row of counts and returns the price of all symbols and tables.

    ``counts``: (rows, 256) uint32. ``costs``: ``COSTS``. ``spare``: (256,) uint16, ``pooled``:
    (256,) uint32 and ``packed``: (MAX_TABLE_BYTES,) uint8 are scratch. ``freqs``: (rows, 256)
    uint16 and ``tags``: (rows,) uint8 (0: the table before it serves; 1 + g: its own, in groups
    of 2^g) are written. A row without any symbol takes the table before it, the first row a table
    of its own.
    """
    price = np.int64(0)
    for row in range(counts.shape[0]):
        best = np.int64(1) << np.int64(60)
        if row > 0:
            for s in range(256):
                freqs[row, s] = freqs[row - 1, s]
            tags[row] = 0
            best = price_kernel(counts[row], freqs[row], costs) + 8 * ONE_BIT
        for group_log2 in range(0, GROUP_LOG2 + 1, GROUP_LOG2):
            if row > 0 and best <= 8 * ONE_BIT:
                break
            fit_kernel(counts[row], group_log2, pooled, packed, spare)
            table_bytes = pack_table_kernel(spare, group_log2, packed, 0)
            own = price_kernel(counts[row], spare, costs) + np.int64(table_bytes) * 8 * ONE_BIT
            if own < best:
                best = own
                for s in range(256):
                    freqs[row, s] = spare[s]
                tags[row] = 1 + group_log2
        price += best
    return price


@njit(nogil=True, cache=True)
def survey_kernel(symbols, segment, parts, counts, costs, spare, pooled, packed, freqs, tags):
    """Counts the symbols of each segment and chooses its table, in one call: threads that take
    turns at the interpreter lose more by every further one than by the choosing.

    Arguments: see ``count_kernel`` (``parts`` is its scratch) and ``choose_kernel``. Returns the
    price and the number of different symbols.
    """
    count_kernel(symbols, segment, parts, counts)
    distinct = 0
    for s in range(256):
        total = np.uint32(0)
        for row in range(counts.shape[0]):
            total |= counts[row, s]
        distinct += total > 0
    return choose_kernel(counts, costs, spare, pooled, packed, freqs, tags), distinct


@njit(nogil=True, cache=True)
def _bit_length(value):
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@njit(nogil=True, cache=True)
def pack_table_kernel(freqs, group_log2, out, at):
    """Packs a table at ``out[at:]`` (uint8, MAX_TABLE_BYTES free) and returns where it ends.

    ``freqs``: (256,) uint16 that sum to 4096, equal within groups of ``2**group_log2``.
    """
    first = 0
    while freqs[first << group_log2] == 0:
        first += 1
    last = (256 >> group_log2) - 1
    while freqs[last << group_log2] == 0:
        last -= 1
    out[at] = 1 + group_log2
    out[at + 1] = first
    out[at + 2] = last
    nibbles = at + 3
    at = nibbles + (last - first + 2) // 2
    out[at - 1] = 0
    hold = np.uint32(0)
    held = 0
    for g in range(first, last + 1):
        f = np.uint32(freqs[g << group_log2])
        bits = _bit_length(f)
        i = g - first
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
def pack_tables_kernel(freqs, tags, out):
    """Packs all tables into ``out`` (rows * MAX_TABLE_BYTES,) uint8 and returns their length; see
    ``choose_kernel``.
    """
    at = 0
    for row in range(freqs.shape[0]):
        if tags[row] == 0:
            out[at] = 0
            at += 1
        else:
            at = pack_table_kernel(freqs[row], tags[row] - 1, out, at)
    return at


@njit(nogil=True, cache=True)
def parse_table_kernel(source, at, freqs):  # noqa: C901 (one kernel is faster)
    """Parses the table at ``source[at:]`` (uint8) into ``freqs`` (256,) uint16; returns where it
    ends, or -1.

    A tag of 0 leaves ``freqs`` as they are. -1 means that the table does not lie inside
    ``source`` or does not sum to 4096. Reads nothing outside.
    """
    end = source.size
    if at >= end:
        return -1
    if source[at] == 0:
        return at + 1
    group_log2 = np.int64(source[at]) - 1
    if at + 3 > end or group_log2 > 7:
        return -1
    first = np.int64(source[at + 1])
    last = np.int64(source[at + 2])
    nibbles = at + 3
    at = nibbles + (last - first + 2) // 2
    if last < first or last >= 256 >> group_log2 or at > end:
        return -1
    for s in range(256):
        freqs[s] = 0
    hold = np.uint32(0)
    held = 0
    total = np.int64(0)
    for i in range(last - first + 1):
        bits = np.int64(source[nibbles + i // 2] >> np.uint8(4 * (i & 1))) & 15
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
        for s in range((first + i) << group_log2, (first + i + 1) << group_log2):
            freqs[s] = f
        total += np.int64(f) << group_log2
    if total != SCALE:
        return -1
    return at


@njit(nogil=True, cache=True)
def index_starts_kernel(freqs, starts):
    """Builds the encoder's table: ``starts`` (256,) uint32, entry = start << 12 | frequency."""
    start = np.uint32(0)
    for s in range(256):
        starts[s] = (start << np.uint32(12)) | np.uint32(freqs[s])
        start += np.uint32(freqs[s])


@njit(nogil=True, cache=True)
def spread_kernel(freqs, slots):
    """Builds the decoder's table: ``slots`` (4096,) uint32, entry = symbol << 24 | offset << 12 |
    frequency.

    ``freqs``: (256,) uint16 that sum to 4096. The offset is the slot's place within its symbol's
    range.
    """
    slot = 0
    for s in range(256):
        f = np.int64(freqs[s])
        entry = (np.uint32(s) << np.uint32(24)) | np.uint32(f)
        at = slot
        slot += f
        # Most symbols have a few slots: a whole vector at a time, into the slots of the next
        # symbols too, which come later.
        while at < slot and at + _AT_ONCE <= SCALE:
            room = slots[at : at + _AT_ONCE]
            for i in range(_AT_ONCE):
                room[i] = entry
                entry += np.uint32(1 << SCALE_BITS)
            at += _AT_ONCE
        for last in range(at, slot):
            slots[last] = entry
            entry += np.uint32(1 << SCALE_BITS)

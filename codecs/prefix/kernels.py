"""Whole planes of prefix codes: tables, then unrolled rounds, then plain loops for the rest.

``source``: uint8, a whole stream; nothing outside it is read, and bits beyond its end are zeros.
Kernels return -1 for a stream that no encoder writes; ``out`` may then hold anything.
"""

import numpy as np

from ..jit.cached import IS_COMPILED, njit
from ..planes import join2_kernel
from . import codes, loops
from .codes import PLANE_BITS, ROW_BITS
from .look_ups import MOST_SYMBOLS, fill_plane_kernel, fill_row_kernel, index_codes_kernel
from .loops import PLANE_LANES, ROW_LANES

WRITE_SLACK = 8
"""Bytes that an encoder may clobber beyond what it writes."""
LANE_HEAD_BYTES = 4
CHUNK = 8000
"""Symbols of rows that are coded at a time, a multiple of a round of all lanes: their contexts and
what becomes of them stay in the first cache."""
_MARGIN = loops.PLANE_ROUND * MOST_SYMBOLS + 2


@njit(nogil=True, cache=True)
def _peek(source, place):
    """Returns the next 12 bits from bit ``place`` on."""
    at = place >> 3
    word = np.int64(0)
    for i in range(at, at + 3):
        word = (word << 8) | (np.int64(source[i]) if i < source.size else np.int64(0))
    return (word >> (12 - (place & 7))) & 4095


@njit(nogil=True, cache=True)
def _rounds_left(source, place, out_at, stop):
    """Returns how many rounds of a plane have room from bit ``place`` and index ``out_at`` on."""
    by_input = (source.size - (place >> 3) - 8) // loops.PLANE_STEP_BYTES
    by_output = (stop - out_at - _MARGIN) // (loops.PLANE_ROUND * MOST_SYMBOLS)
    return max(0, min(by_input, by_output) + 1)


@njit(nogil=True, cache=True)
def _decode_lanes(source, entries, lengths, places, stops, out):
    """Decodes one segment, whose lanes begin at ``places`` (4, 2) and write up to ``stops`` (4,).

    ``places``: see ``loops.decode_four_lanes``; updated.
    """
    while IS_COMPILED:
        rounds = _rounds_left(source, places[0, 0], places[0, 1], stops[0])
        for lane in range(1, PLANE_LANES):
            own = _rounds_left(source, places[lane, 0], places[lane, 1], stops[lane])
            rounds = min(rounds, own)
        if rounds == 0:
            break
        loops.decode_four_lanes(source, entries, places, 0, out, rounds)
    for lane in range(PLANE_LANES):
        while IS_COMPILED:
            rounds = _rounds_left(source, places[lane, 0], places[lane, 1], stops[lane])
            if rounds == 0:
                break
            loops.decode_one_lane(source, entries, places, lane, out, rounds)
        place, at = places[lane, 0], places[lane, 1]
        while at < stops[lane]:
            entry = entries[(1 << PLANE_BITS) + _peek(source, place)]
            for _ in range(entry >> np.uint64(56)):
                if at < stops[lane]:
                    symbol = entry & np.uint64(255)
                    out[at] = symbol
                    place += np.int64(lengths[symbol])
                    at += 1
                entry >>= np.uint64(8)
        places[lane, 0], places[lane, 1] = place, at


@njit(nogil=True, cache=True)
def _open_lanes(source, at, begin, stop, places, ends, stops):
    """Reads the heads of a segment's lanes; returns where they end, or -1."""
    lanes_at = at + PLANE_LANES * LANE_HEAD_BYTES
    if lanes_at > source.size:
        return -1
    share = (stop - begin + PLANE_LANES - 1) // PLANE_LANES
    for lane in range(PLANE_LANES):
        size = np.int64(0)
        for i in range(LANE_HEAD_BYTES):
            size |= np.int64(source[at + LANE_HEAD_BYTES * lane + i]) << (8 * i)
        if size > source.size - lanes_at:
            return -1
        places[lane, 0] = 8 * lanes_at
        places[lane, 1] = min(begin + lane * share, stop)
        stops[lane] = min(begin + (lane + 1) * share, stop)
        lanes_at += size
        ends[lane] = lanes_at
    return lanes_at


@njit(nogil=True, cache=True)
def _are_used(places, ends):
    """Tells whether every lane ends in its last byte."""
    left = np.int64(0)
    for lane in range(ends.size):
        left |= ((places[lane, 0] + 7) >> 3) ^ ends[lane]
    return left == 0


@njit(nogil=True, cache=True)
def decode_plane_kernel(source, segment_log2, lengths, entries, room, words, low):
    """Decodes ``source`` from byte 1 on into ``room`` or, joined with ``low``, into ``words``.

    ``lengths``: (256,) uint8 and ``entries``: (2 << PLANE_BITS,) uint64 are scratch. ``room``:
    (n,) uint8, or with ``low`` (n,) uint8 a segment's scratch, and ``words`` (n,) uint16. Returns
    where it stopped.
    """
    is_joined = words.size > 0
    count = words.size if is_joined else room.size
    places = np.zeros((PLANE_LANES, 2), np.int64)
    ends, stops = np.zeros(PLANE_LANES, np.int64), np.zeros(PLANE_LANES, np.int64)
    segment = 1 << segment_log2
    at = 1
    for begin in range(0, count, segment):
        stop = min(begin + segment, count)
        is_new = at < source.size and source[at] != codes.SAME
        if begin == 0 and not is_new:
            return -1
        at = codes.parse_kernel(source, at, PLANE_BITS, lengths)
        if at < 0:
            return -1
        if is_new:
            fill_plane_kernel(lengths, PLANE_BITS, entries)
        first = 0 if is_joined else begin
        at = _open_lanes(source, at, first, first + stop - begin, places, ends, stops)
        if at < 0:
            return -1
        _decode_lanes(source, entries, lengths, places, stops, room)
        if not _are_used(places, ends):
            return -1
        if is_joined:
            join2_kernel(room[: stop - begin], low[begin:stop], True, words[begin:stop])
    return at


@njit(nogil=True, cache=True)
def _join(one, other):
    """Returns two codes as one; in each the length is the lowest byte."""
    low = np.uint64(255)
    return ((one & ~low) << (other & np.uint64(63))) + (one & low) + other


@njit(nogil=True, cache=True)
def _write_lane(symbols, begin, stop, table, out, at, state):
    """Writes the codes of the symbols from ``begin`` to ``stop``; returns where it is in ``out``.

    ``table``: (256,) uint32 of ``look_ups.index_codes_kernel``. ``state``: (2,) uint64, updated:
    bits that were not written yet, and how many of them count.
    """
    bits, held = state[0], state[1]
    for i in range(begin, stop, 4):
        joined = np.uint64(0)
        if i + 4 <= stop:
            one = _join(np.uint64(table[symbols[i]]), np.uint64(table[symbols[i + 1]]))
            other = _join(np.uint64(table[symbols[i + 2]]), np.uint64(table[symbols[i + 3]]))
            joined = _join(one, other)
        else:
            for last in range(i, stop):
                joined = _join(joined, np.uint64(table[symbols[last]]))
        bits = (bits << (joined & np.uint64(255))) | (joined >> np.uint64(8))
        held += joined & np.uint64(255)
        loops.store_bits(out, at, bits << (np.uint64(64) - held))
        at += np.int64(held >> np.uint64(3))
        held &= np.uint64(7)
    state[0], state[1] = bits, held
    return at


@njit(nogil=True, cache=True)
def _finish_lane(at, state):
    """Returns where a lane ends: the bits that are left stand in ``out``, zeros behind them."""
    return at + (1 if state[1] > 0 else 0)


@njit(nogil=True, cache=True)
def encode_plane_kernel(symbols, segment_log2, lengths, tags, table, out):
    """Writes ``symbols`` (n,) uint8 with a code per segment to ``out`` uint8; returns where they
    end.

    ``lengths``, ``tags``: see ``codes.choose_kernel``. ``table``: (256,) uint32, scratch.
    """
    at = 0
    state = np.zeros(2, np.uint64)
    for index in range(tags.size):
        at = codes.pack_kernel(lengths[index], tags[index], out, at)
        index_codes_kernel(lengths[index], table)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), symbols.size)
        share = (stop - begin + PLANE_LANES - 1) // PLANE_LANES
        head = at
        at += PLANE_LANES * LANE_HEAD_BYTES
        for lane in range(PLANE_LANES):
            first, last = min(begin + lane * share, stop), min(begin + (lane + 1) * share, stop)
            start = at
            state[:] = 0
            at = _write_lane(symbols, first, last, table, out, at, state)
            at = _finish_lane(at, state)
            for i in range(LANE_HEAD_BYTES):
                out[head + LANE_HEAD_BYTES * lane + i] = ((at - start) >> (8 * i)) & 255
    return at


@njit(nogil=True, cache=True)
def parse_rows_kernel(source, at, lengths, entries):
    """Parses a code for every row of ``entries`` (rows, 2048) uint16; returns where they end, or
    -1.

    ``lengths``: (256,) uint8, scratch.
    """
    for row in range(entries.shape[0]):
        is_new = at < source.size and source[at] != codes.SAME
        if row == 0 and not is_new:
            return -1
        at = codes.parse_kernel(source, at, ROW_BITS, lengths)
        if at < 0:
            return -1
        if is_new:
            fill_row_kernel(lengths, ROW_BITS, entries[row])
        else:
            own, other = entries[row], entries[row - 1]
            for i in range(own.size):
                own[i] = other[i]
    return at


@njit(nogil=True, cache=True)
def open_rows_kernel(source, at, places, ends):
    """Reads the heads of the lanes; returns where the lanes end, or -1."""
    lanes_at = at + ROW_LANES * LANE_HEAD_BYTES
    if lanes_at > source.size:
        return -1
    for lane in range(ROW_LANES):
        size = np.int64(0)
        for i in range(LANE_HEAD_BYTES):
            size |= np.int64(source[at + LANE_HEAD_BYTES * lane + i]) << (8 * i)
        if size > source.size - lanes_at:
            return -1
        places[lane] = 8 * lanes_at
        lanes_at += size
        ends[lane] = lanes_at
    return lanes_at


@njit(nogil=True, cache=True)
def take_rows_kernel(source, entries, places, contexts, out):
    """Looks up the next entries, ``out`` (n,) uint16, with a row for each of ``contexts`` (n,): a
    symbol is the upper byte of one.

    The first is of lane 0. ``entries``: (rows, 2048) uint16. ``places``: (8,) int64, updated.
    """
    done = 0
    size = ROW_LANES * loops.ROW_ROUND
    while IS_COMPILED:
        furthest = np.int64(0)
        for lane in range(ROW_LANES):
            furthest = max(furthest, places[lane])
        by_input = (source.size - (furthest >> 3) - 8) // loops.ROW_STEP_BYTES + 1
        rounds = min(by_input, (out.size - done) // size)
        if rounds <= 0:
            break
        loops.decode_rows(source, entries, places, contexts, out, done, rounds)
        done += size * rounds
    for i in range(done, out.size):
        lane = i % ROW_LANES
        entry = entries[contexts[i], _peek(source, places[lane]) >> (12 - ROW_BITS)]
        out[i] = entry
        places[lane] += np.int64(entry & np.uint16(255))


@njit(nogil=True, cache=True)
def are_rows_used_kernel(places, ends):
    """Tells whether every lane ends in its last byte."""
    left = np.int64(0)
    for lane in range(ends.size):
        left |= ((places[lane] + 7) >> 3) ^ ends[lane]
    return left == 0


@njit(nogil=True, cache=True)
def _narrow_kernel(found, out):
    for i in range(out.size):
        out[i] = found[i] >> np.uint16(8)


@njit(nogil=True, cache=True)
def decode_rows_kernel(source, contexts, lengths, entries, room, out):
    """Decodes ``out`` (n,) uint8 with a row for each of ``contexts`` (n,); returns where it
    stopped, or -1.

    ``lengths``, ``entries``: see ``parse_rows_kernel``. ``room``: (CHUNK,) uint16, scratch.
    """
    places, ends = np.zeros(ROW_LANES, np.int64), np.zeros(ROW_LANES, np.int64)
    at = parse_rows_kernel(source, 0, lengths, entries)
    if at < 0:
        return -1
    at = open_rows_kernel(source, at, places, ends)
    if at < 0:
        return -1
    for begin in range(0, out.size, CHUNK):
        stop = min(begin + CHUNK, out.size)
        found = room[: stop - begin]
        take_rows_kernel(source, entries, places, contexts[begin:stop], found)
        _narrow_kernel(found, out[begin:stop])
    return at if are_rows_used_kernel(places, ends) else -1


@njit(nogil=True, cache=True)
def decode_segments_kernel(source, segment_log2, lengths, entries, chunk, room, out, words, low):
    """Like ``decode_rows_kernel``, of ``source`` from byte 1 on, with a row for each segment; into
    ``out`` (n,) uint8 or, joined with ``low`` (n,) uint8, into ``words`` (n,) uint16.

    ``chunk``: (2, CHUNK) uint8 and ``room``: (CHUNK,) uint16, scratch. ``out`` or ``words`` is
    empty.
    """
    places, ends = np.zeros(ROW_LANES, np.int64), np.zeros(ROW_LANES, np.int64)
    count = max(out.size, words.size)
    at = parse_rows_kernel(source, 1, lengths, entries)
    if at < 0:
        return -1
    at = open_rows_kernel(source, at, places, ends)
    if at < 0:
        return -1
    for begin in range(0, count, CHUNK):
        stop = min(begin + CHUNK, count)
        contexts, symbols = chunk[0, : stop - begin], chunk[1, : stop - begin]
        first, last = begin >> segment_log2, (stop - 1) >> segment_log2
        contexts[:] = first
        for row in range(first + 1, last + 1):
            contexts[(row << segment_log2) - begin :] = row
        take_rows_kernel(source, entries, places, contexts, room[: stop - begin])
        if words.size == 0:
            symbols = out[begin:stop]
        _narrow_kernel(room[: stop - begin], symbols)
        if words.size > 0:
            join2_kernel(symbols, low[begin:stop], True, words[begin:stop])
    return at if are_rows_used_kernel(places, ends) else -1


@njit(nogil=True, cache=True)
def _write_row_lane(symbols, contexts, begin, stop, table, out, at, state):
    """Like ``_write_lane`` for every eighth symbol from ``begin`` on, with ``table`` of (rows,
    256).
    """
    bits, held = state[0], state[1]
    step = ROW_LANES
    for i in range(begin, stop, 4 * step):
        joined = np.uint64(0)
        if i + 3 * step < stop:
            j, k, m = i + step, i + 2 * step, i + 3 * step
            one = np.uint64(table[contexts[i], symbols[i]])
            one = _join(one, np.uint64(table[contexts[j], symbols[j]]))
            other = np.uint64(table[contexts[k], symbols[k]])
            other = _join(other, np.uint64(table[contexts[m], symbols[m]]))
            joined = _join(one, other)
        else:
            for last in range(i, stop, step):
                joined = _join(joined, np.uint64(table[contexts[last], symbols[last]]))
        bits = (bits << (joined & np.uint64(255))) | (joined >> np.uint64(8))
        held += joined & np.uint64(255)
        loops.store_bits(out, at, bits << (np.uint64(64) - held))
        at += np.int64(held >> np.uint64(3))
        held &= np.uint64(7)
    state[0], state[1] = bits, held
    return at


@njit(nogil=True, cache=True)
def encode_rows_kernel(symbols, contexts, lengths, tags, table, packed, room, ends):
    """Writes the tables to ``packed`` uint8 and each lane to a row of ``room`` (8, .) uint8.

    ``lengths``, ``tags``: see ``codes.choose_kernel``. ``table``: (rows, 256) uint32, scratch.
    ``ends``: (8,) int64, written: how long each lane is. Returns where the tables end.
    """
    at = 0
    for row in range(tags.size):
        at = codes.pack_kernel(lengths[row], tags[row], packed, at)
        index_codes_kernel(lengths[row], table[row])
    state = np.zeros((ROW_LANES, 2), np.uint64)
    ends[:] = 0
    for begin in range(0, symbols.size, CHUNK):
        stop = min(begin + CHUNK, symbols.size)
        for lane in range(ROW_LANES):
            first, own = begin + lane, state[lane]
            ends[lane] = _write_row_lane(
                symbols, contexts, first, stop, table, room[lane], ends[lane], own
            )
    for lane in range(ROW_LANES):
        ends[lane] = _finish_lane(ends[lane], state[lane])
        for i in range(LANE_HEAD_BYTES):
            packed[at + i] = (ends[lane] >> (8 * i)) & 255
        at += LANE_HEAD_BYTES
    return at

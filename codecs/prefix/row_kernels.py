"""Planes of prefix codes with a code for each row: by context, or by segment.

Arguments and results: see ``plane_kernels``.
"""

import numpy as np

from ..jit.cached import IS_COMPILED, njit
from ..planes import join2_kernel
from . import codes, loops, write_loops
from .codes import ROW_BITS
from .lanes import (
    LANE_HEAD_BYTES,
    finish_lane,
    join_codes,
    peek,
    read_size_kernel,
    write_codes,
    write_size_kernel,
)
from .look_ups import fill_row_kernel, index_codes_kernel
from .loops import ROW_LANES

CHUNK = 8000
"""Symbols of rows that are coded at a time, a multiple of a round of all lanes: their contexts and
what becomes of them stay in the first cache."""
_ROUND_SIZE = ROW_LANES * loops.ROW_ROUND


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
        size = read_size_kernel(source, at + LANE_HEAD_BYTES * lane)
        if size > source.size - lanes_at:
            return -1
        places[lane] = 8 * lanes_at
        lanes_at += size
        ends[lane] = lanes_at
    return lanes_at


@njit(nogil=True, cache=True)
def _row_rounds_left(source, places, left):
    """Returns how many rounds of rows have room for ``left`` symbols more."""
    furthest = np.int64(0)
    for lane in range(ROW_LANES):
        furthest = max(furthest, places[lane])
    by_input = (source.size - (furthest >> 3) - 8) // loops.ROW_STEP_BYTES + 1
    return min(by_input, left // _ROUND_SIZE)


@njit(nogil=True, cache=True)
def _take_row_kernel(source, entries, places, out):
    """Like ``take_rows_kernel`` with one row, ``entries`` (2048,) uint16, for all symbols."""
    done = 0
    while IS_COMPILED:
        rounds = _row_rounds_left(source, places, out.size - done)
        if rounds <= 0:
            break
        loops.decode_row(source, entries, places, out, done, rounds)
        done += _ROUND_SIZE * rounds
    for i in range(done, out.size):
        lane = i % ROW_LANES
        entry = entries[peek(source, places[lane]) >> (12 - ROW_BITS)]
        out[i] = entry
        places[lane] += np.int64(entry & np.uint16(255))


@njit(nogil=True, cache=True)
def take_rows_kernel(source, entries, places, contexts, out):
    """Looks up the next entries, ``out`` (n,) uint16, with a row for each of ``contexts`` (n,): a
    symbol is the upper byte of one.

    The first is of lane 0. ``entries``: (rows, 2048) uint16. ``places``: (8,) int64, updated.
    """
    done = 0
    while IS_COMPILED:
        rounds = _row_rounds_left(source, places, out.size - done)
        if rounds <= 0:
            break
        loops.decode_rows(source, entries, places, contexts, out, done, rounds)
        done += _ROUND_SIZE * rounds
    for i in range(done, out.size):
        lane = i % ROW_LANES
        entry = entries[contexts[i], peek(source, places[lane]) >> (12 - ROW_BITS)]
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

    ``chunk``: (CHUNK,) uint8 and ``room``: (CHUNK,) uint16, scratch. ``out`` or ``words`` is
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
        # Segments and chunks both begin in lane 0.
        for row in range(begin >> segment_log2, ((stop - 1) >> segment_log2) + 1):
            first = max(begin, row << segment_log2)
            last = min(stop, (row + 1) << segment_log2)
            _take_row_kernel(source, entries[row], places, room[first - begin : last - begin])
        symbols = chunk[: stop - begin] if words.size > 0 else out[begin:stop]
        _narrow_kernel(room[: stop - begin], symbols)
        if words.size > 0:
            join2_kernel(symbols, low[begin:stop], True, words[begin:stop])
    return at if are_rows_used_kernel(places, ends) else -1


@njit(nogil=True, cache=True)
def _write_row_lane(symbols, contexts, begin, stop, table, out, at, state):
    """Writes the codes of every eighth symbol from ``begin`` to ``stop``, with ``table`` of (rows,
    256) uint32; returns where it is in ``out``.

    ``state``: see ``write_loops.write_next``.
    """
    count = max(stop - begin + ROW_LANES - 1, 0) // ROW_LANES
    groups = count // write_loops.GROUP
    at = write_loops.write_by_context(symbols, contexts, begin, table, out, at, state, groups)
    joined = np.uint64(0)
    for i in range(begin + write_loops.GROUP * ROW_LANES * groups, stop, ROW_LANES):
        joined = join_codes(joined, np.uint64(table[contexts[i], symbols[i]]))
    return write_codes(joined, out, at, state)


@njit(nogil=True, cache=True)
def _write_segment_lane(symbols, begin, stop, table, out, at, state):
    """Like ``_write_row_lane`` with one row, ``table`` of (256,) uint32."""
    count = max(stop - begin + ROW_LANES - 1, 0) // ROW_LANES
    groups = count // write_loops.GROUP
    at = write_loops.write_every_eighth(symbols, begin, table, out, at, state, groups)
    joined = np.uint64(0)
    for i in range(begin + write_loops.GROUP * ROW_LANES * groups, stop, ROW_LANES):
        joined = join_codes(joined, np.uint64(table[symbols[i]]))
    return write_codes(joined, out, at, state)


@njit(nogil=True, cache=True)
def _pack_rows_kernel(lengths, tags, table, packed):
    """Writes the tables to ``packed`` uint8; returns where they end."""
    at = 0
    for row in range(tags.size):
        at = codes.pack_kernel(lengths[row], tags[row], packed, at)
        index_codes_kernel(lengths[row], table[row])
    return at


@njit(nogil=True, cache=True)
def _finish_lanes_kernel(ends, state, packed, at):
    """Ends every lane and writes how long it is; returns where that ends in ``packed``."""
    for lane in range(ROW_LANES):
        ends[lane] = finish_lane(ends[lane], state[lane])
        write_size_kernel(ends[lane], packed, at)
        at += LANE_HEAD_BYTES
    return at


@njit(nogil=True, cache=True)
def encode_rows_kernel(symbols, contexts, lengths, tags, table, packed, room, ends):
    """Writes the tables to ``packed`` uint8 and each lane to a row of ``room`` (8, .) uint8.

    ``lengths``, ``tags``: see ``codes.choose_kernel``. ``table``: (rows, 256) uint32, scratch.
    ``ends``: (8,) int64, written: how long each lane is. Returns where the tables end.
    """
    at = _pack_rows_kernel(lengths, tags, table, packed)
    state = np.zeros((ROW_LANES, 2), np.uint64)
    ends[:] = 0
    for begin in range(0, symbols.size, CHUNK):
        stop = min(begin + CHUNK, symbols.size)
        for lane in range(ROW_LANES):
            first, own = begin + lane, state[lane]
            ends[lane] = _write_row_lane(
                symbols, contexts, first, stop, table, room[lane], ends[lane], own
            )
    return _finish_lanes_kernel(ends, state, packed, at)


@njit(nogil=True, cache=True)
def encode_segments_kernel(symbols, segment_log2, lengths, tags, table, packed, room, ends):
    """Like ``encode_rows_kernel`` with a row for each segment."""
    at = _pack_rows_kernel(lengths, tags, table, packed)
    state = np.zeros((ROW_LANES, 2), np.uint64)
    ends[:] = 0
    for row in range(tags.size):
        begin = row << segment_log2
        stop = min(begin + (1 << segment_log2), symbols.size)
        for lane in range(ROW_LANES):
            first, own = begin + lane, state[lane]
            ends[lane] = _write_segment_lane(
                symbols, first, stop, table[row], room[lane], ends[lane], own
            )
    return _finish_lanes_kernel(ends, state, packed, at)

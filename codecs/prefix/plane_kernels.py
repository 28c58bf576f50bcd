"""Planes of prefix codes, a code for each segment: tables, then unrolled rounds, then plain loops
for the rest.

``source``: uint8, a whole stream; nothing outside it is read, and bits beyond its end are zeros.
Kernels return -1 for a stream that no encoder writes; ``out`` may then hold anything.
"""

import numpy as np

from ..jit.cached import IS_COMPILED, njit
from ..planes import join2_kernel
from . import codes, loops, write_loops
from .codes import PLANE_BITS
from .lanes import (
    LANE_HEAD_BYTES,
    finish_lane,
    join_codes,
    peek,
    read_size_kernel,
    write_codes,
    write_size_kernel,
)
from .look_ups import MOST_SYMBOLS, fill_plane_kernel, index_codes_kernel
from .loops import PLANE_LANES

_MARGIN = loops.PLANE_ROUND * MOST_SYMBOLS + 2


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
            entry = entries[(1 << PLANE_BITS) + peek(source, place)]
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
        size = read_size_kernel(source, at + LANE_HEAD_BYTES * lane)
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
def _write_lane(symbols, begin, stop, table, out, at, state):
    """Writes the codes of the symbols from ``begin`` to ``stop``; returns where it is in ``out``.

    ``table``: (256,) uint32 of ``look_ups.index_codes_kernel``. ``state``: (2,) uint64, updated:
    bits that were not written yet, and how many of them count.
    """
    groups = max(stop - begin, 0) // write_loops.GROUP
    at = write_loops.write_next(symbols, begin, table, out, at, state, groups)
    joined = np.uint64(0)
    for i in range(begin + write_loops.GROUP * groups, stop):
        joined = join_codes(joined, np.uint64(table[symbols[i]]))
    return write_codes(joined, out, at, state)


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
            at = finish_lane(at, state)
            write_size_kernel(at - start, out, head + LANE_HEAD_BYTES * lane)
    return at

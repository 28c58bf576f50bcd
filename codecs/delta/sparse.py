"""Codes the few elements of a block that differ from its base (FORMAT.md, "Patches").

Places are coded as gaps in Rice codes, which for changes at random take 3 % more than their
entropy and need no table; what changed is coded as byte planes of the folded differences.
"""

import struct

import numpy as np

from ..buffers import Words, freeze
from ..errors import CorruptFrame
from ..jit.cached import njit
from ..planes import WORDS
from ..rans.streams import PLAIN, Plan, Sink, StreamReader, plan_stream

_HEAD = struct.Struct("<IBI")
_MOST_LOW_BITS = 24
MOST_CHANGED = 8
"""Patches are planned where at most one element in 8 changed. With more, MiniLM in bf16 takes
fewer bytes as differences with contexts, which also code an unchanged element in a tenth of a
bit."""


@njit(nogil=True, cache=True)
def pack_gaps_kernel(places, low_bits, out):
    """Writes Rice codes of the gaps between ascending ``places`` (n,) int64; returns their length
    in bits.

    A gap is its upper part as zeros and a one, then ``low_bits`` bits, lowest first. ``out``:
    uint8, zeroed.
    """
    at = 0
    before = -1
    for i in range(places.size):
        gap = places[i] - before - 1
        before = places[i]
        at += gap >> low_bits
        out[at >> 3] |= np.uint8(1 << (at & 7))
        at += 1
        for bit in range(low_bits):
            if gap >> bit & 1:
                out[at >> 3] |= np.uint8(1 << (at & 7))
            at += 1
    return at


@njit(nogil=True, cache=True)
def parse_gaps_kernel(source, low_bits, count, places):
    """Reads ``places`` (n,) int64 from Rice codes; returns where they end in bits, or -1.

    -1 means that ``source`` ends early or that a place is not below ``count``. Reads nothing
    outside ``source``.
    """
    at = 0
    end = 8 * source.size
    before = -1
    for i in range(places.size):
        gap = 0
        while at < end and not source[at >> 3] >> (at & 7) & 1:
            gap += 1
            at += 1
        at += 1
        if at + low_bits > end:
            return -1
        gap <<= low_bits
        for bit in range(low_bits):
            gap |= (np.int64(source[at >> 3]) >> (at & 7) & 1) << bit
            at += 1
        before += gap + 1
        if before >= count:
            return -1
        places[i] = before
    return at


def plan_patch(target: Words, base: Words) -> Plan | None:
    """Plans (n,) elements as a patch of ``base``; None where more than an eighth of them
    changed.
    """
    places = np.flatnonzero(target != base)
    if not places.size or places.size * MOST_CHANGED > target.size:
        return None
    low_bits = _choose_low_bits(target.size, places.size)
    gaps = np.zeros(_gap_bytes(target.size, places.size, low_bits), np.uint8)
    used = -(-pack_gaps_kernel(freeze(places), low_bits, gaps) // 8)
    streams = _plan_changes(target[places], base[places])
    head = _HEAD.pack(places.size, low_bits, used)
    size = len(head) + used + sum(stream.coded_bytes for stream in streams)

    def write(sink: Sink) -> None:
        sink(head)
        sink(gaps[:used].data)
        for stream in streams:
            stream.write(sink)

    return Plan(size, write)


def _choose_low_bits(count: int, changed: int) -> int:
    """Returns the Rice parameter for gaps at random: log2 of 0.69 times their mean."""
    return min(_MOST_LOW_BITS, max(0, (count * 45 // (changed * 64)).bit_length() - 1))


def _gap_bytes(count: int, changed: int, low_bits: int) -> int:
    return ((count >> low_bits) + changed * (1 + low_bits)) // 8 + 1


def _plan_changes(target: Words, base: Words) -> list[Plan]:
    folded = fold(target - base)
    cells = folded.view(np.uint8).reshape(-1, folded.itemsize)
    planes = [np.ascontiguousarray(cells[:, place]) for place in range(folded.itemsize)]
    return [plan_stream(freeze(plane), PLAIN) for plane in planes]


def fold(steps: Words) -> Words:
    """Returns differences, (n,) unsigned and wrapped round, as 0, -1, 1, -2, ... counted up."""
    width = 8 * steps.itemsize
    signs = steps.view(np.dtype(f"i{steps.itemsize}")) >> (width - 1)
    return (steps << steps.dtype.type(1)) ^ signs.view(steps.dtype)


def unfold(folded: Words) -> Words:
    """Mirrors ``fold``."""
    one = folded.dtype.type(1)
    return (folded >> one) ^ (folded.dtype.type(0) - (folded & one))


def decode_patch(reader: StreamReader, base: Words, out: Words) -> None:
    """Decodes ``out`` (n,) against ``base`` (n,); mirrors ``plan_patch``."""
    changed, low_bits, gap_bytes = _HEAD.unpack(reader.take(_HEAD.size).data)
    if not 0 < changed <= out.size or low_bits > _MOST_LOW_BITS:
        raise CorruptFrame("a patch has an impossible head")
    places = np.empty(changed, np.int64)
    end = parse_gaps_kernel(reader.take(gap_bytes), low_bits, out.size, places)
    if end < 0 or -(-end // 8) != gap_bytes:
        raise CorruptFrame("a patch names places that are not there")
    folded = np.empty(changed, WORDS[out.itemsize])
    cells = folded.view(np.uint8).reshape(-1, out.itemsize)
    for place in range(out.itemsize):
        cells[:, place] = reader.take_plane(changed)
    out[:] = base
    out[places] = base[places] + unfold(folded)

"""Cuts groups of quantised elements into their fields and codes each by itself (FORMAT.md,
"Fields").
"""

from dataclasses import replace

import numpy as np

from ..buffers import Bytes, freeze
from ..dtypes import Dtype
from ..errors import CorruptFrame
from ..jit.cached import njit
from ..rans.streams import Effort, Plan, Sink, StreamReader, plan_stream
from . import guides
from .groups import Layout, Scale, find_layout, list_places

FIELDS = 4
"""The number of this layout in a block."""

_TILE = 64
"""Groups that are cut together: few enough to stay in the first cache."""
_LONG_RUN = 8
"""Symbols of a run from which on it is worth a loop of its own in each group."""


@njit(nogil=True, cache=True)
def _end_runs_kernel(places, ends):
    """Writes to ``ends`` (k,) int64, where a run of symbols begins, where it ends: neighbours lie
    in neighbouring bytes, at the same bits. Returns whether runs are long.
    """
    first, runs = 0, 0
    for s in range(1, places.shape[0] + 1):
        is_next = s < places.shape[0] and places[s, 0] == places[first, 0] + s - first
        if is_next and places[s, 5] > 0:
            is_next = places[s, 3] == places[first, 3] + s - first
        for column in (1, 2, 4, 5, 6):
            is_next = is_next and places[s, column] == places[first, column]
        if not is_next:
            ends[first] = s
            first = s
            runs += 1
    return runs * _LONG_RUN <= places.shape[0]


# Vectors of bytes cannot be shifted: what moves bits of a run are products of 16 bits.


@njit(nogil=True, cache=True)
def gather_kernel(groups, places, symbols):
    """Gathers one symbol of each group per row of ``places``.

    ``groups``: (n, group_bytes) uint8. ``places``: (k, 7) uint16 of `list_places`. ``symbols``:
    (n, k) uint8, written.
    """
    ends = np.empty(places.shape[0], np.int64)
    if not _end_runs_kernel(places, ends):
        _gather_each_kernel(groups, places, symbols)
        return
    for g in range(groups.shape[0]):
        first = 0
        while first < places.shape[0]:
            _, shift, mask, _, high_shift, high_mask, left = places[first]
            count = ends[first] - first
            part = symbols[g, first : first + count]
            source = groups[g, places[first, 0] : places[first, 0] + count]
            down, kept = np.uint16(256 >> shift), np.uint8(mask)
            for i in range(count):
                part[i] = np.uint8((np.uint16(source[i]) * down) >> np.uint16(8)) & kept
            if high_mask > 0:
                source = groups[g, places[first, 3] : places[first, 3] + count]
                down, kept = np.uint16(256 >> high_shift), np.uint8(high_mask)
                up = np.uint8(1 << left)
                for i in range(count):
                    bits = np.uint8((np.uint16(source[i]) * down) >> np.uint16(8)) & kept
                    part[i] |= np.uint8(np.uint8(bits) * up)
            first += count


@njit(nogil=True, cache=True)
def _gather_each_kernel(groups, places, symbols):
    """Does what `gather_kernel` does symbol by symbol."""
    for first in range(0, groups.shape[0], _TILE):
        last = min(first + _TILE, groups.shape[0])
        for s in range(places.shape[0]):
            low, low_shift, low_mask = places[s, 0], places[s, 1], places[s, 2]
            high, high_shift, high_mask = places[s, 3], places[s, 4], places[s, 5]
            left = places[s, 6]
            for g in range(first, last):
                value = (groups[g, low] >> low_shift) & low_mask
                value |= ((groups[g, high] >> high_shift) & high_mask) << left
                symbols[g, s] = value


@njit(nogil=True, cache=True)
def scatter_kernel(symbols, places, groups):
    """Puts the symbols back; mirrors `gather_kernel`. ``groups`` starts out as zeros."""
    ends = np.empty(places.shape[0], np.int64)
    if not _end_runs_kernel(places, ends):
        _scatter_each_kernel(symbols, places, groups)
        return
    for g in range(groups.shape[0]):
        first = 0
        while first < places.shape[0]:
            _, shift, mask, _, high_shift, high_mask, left = places[first]
            count = ends[first] - first
            part = symbols[g, first : first + count]
            room = groups[g, places[first, 0] : places[first, 0] + count]
            kept, up = np.uint8(mask), np.uint8(1 << shift)
            for i in range(count):
                room[i] |= np.uint8(np.uint8(part[i] & kept) * up)
            if high_mask > 0:
                room = groups[g, places[first, 3] : places[first, 3] + count]
                down, kept = np.uint16(256 >> left), np.uint8(high_mask)
                up = np.uint8(1 << high_shift)
                for i in range(count):
                    bits = np.uint8((np.uint16(part[i]) * down) >> np.uint16(8)) & kept
                    room[i] |= np.uint8(np.uint8(bits) * up)
            first += count


@njit(nogil=True, cache=True)
def _scatter_each_kernel(symbols, places, groups):
    """Does what `scatter_kernel` does symbol by symbol."""
    for first in range(0, groups.shape[0], _TILE):
        last = min(first + _TILE, groups.shape[0])
        for s in range(places.shape[0]):
            low, low_shift, low_mask = places[s, 0], places[s, 1], places[s, 2]
            high, high_shift, high_mask = places[s, 3], places[s, 4], places[s, 5]
            left = places[s, 6]
            for g in range(first, last):
                value = symbols[g, s]
                groups[g, low] |= (value & low_mask) << low_shift
                groups[g, high] |= ((value >> left) & high_mask) << high_shift


def plan_fields(raw: Bytes, dtype: Dtype, effort: Effort) -> Plan:
    """Plans the fields of (n,) uint8, read-only, with at least one whole group."""
    layout = find_layout(dtype.name)
    size = raw.size - raw.size % dtype.group_bytes
    groups, tail = raw[:size].reshape(-1, dtype.group_bytes), raw[size:].tobytes()
    cut = [gather(groups, dtype, number) for number in range(len(layout.planes))]
    streams = [plan_stream(plane, effort) for plane in cut[:-1]]
    places = guides.find_places(layout, cut[-1])
    if places is not None:
        streams.append(plan_stream(guides.pack_places(places), effort))
    step = guides.choose_step(layout, cut[-1].size)
    contexts = guides.find_contexts(layout, groups, cut, places, step)
    guided = effort if contexts is None else replace(effort, contexts=effort.entropy)
    streams.append(plan_stream(cut[-1], guided, contexts))
    head = bytes([FIELDS, step])

    def write(sink: Sink) -> None:
        sink(head)
        for stream in streams:
            stream.write(sink)
        sink(tail)

    return Plan(len(head) + sum(s.coded_bytes for s in streams) + len(tail), write)


def decode_fields(reader: StreamReader, dtype: Dtype, out: Bytes) -> None:
    """Decodes what `plan_fields` wrote into every byte of ``out`` (n,) uint8."""
    layout = find_layout(dtype.name)
    size = out.size - out.size % dtype.group_bytes
    if not size:
        raise CorruptFrame("a block without whole groups is cut into their fields")
    groups = out[:size].reshape(-1, dtype.group_bytes)
    groups[:] = 0
    step = int(reader.take(1)[0])
    if step not in guides.CHOICES:
        raise CorruptFrame("a block with contexts that no writer chooses")
    cut: list[Bytes] = []
    contexts = None
    for number, plane in enumerate(layout.planes):
        count = len(groups) * len(plane)
        if number == len(layout.planes) - 1:
            places = _take_places(reader, layout, count)
            contexts = guides.find_contexts(layout, groups, cut, places, step)
        symbols = reader.take_plane(count, contexts)
        cut.append(symbols)
        scatter_kernel(symbols.reshape(len(groups), -1), list_places(dtype.name, number), groups)
    out[size:] = reader.take(out.size - size)


def _take_places(reader: StreamReader, layout: Layout, quants: int) -> Bytes | None:
    if not isinstance(layout.guide, Scale) or not layout.guide.peaks:
        return None
    runs = quants // layout.guide.elements
    return guides.unpack_places(reader.take_plane(-(-runs * 5 // 8)), runs)


def gather(groups: Bytes, dtype: Dtype, number: int) -> Bytes:
    """Returns the plane of a number, (n k,) uint8, read-only, of (n, group_bytes) uint8."""
    places = list_places(dtype.name, number)
    symbols = np.empty((groups.shape[0], places.shape[0]), np.uint8)
    gather_kernel(freeze(groups), places, symbols)
    return freeze(symbols.reshape(-1))

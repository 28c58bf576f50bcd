"""The ways to cut a block into streams (FORMAT.md, "Layouts").

Every layout starts with its number and ends with the bytes that are left over after the last
whole element.
"""

from typing import NamedTuple

import numpy as np

from .. import planes
from ..buffers import Bytes, Words, freeze, scratch
from ..dtypes import Dtype
from ..errors import CorruptFrame, UnsupportedFrame
from ..jit.cached import njit
from ..prefix import prefix
from ..quantised.fields import FIELDS, decode_fields, plan_fields
from ..rans import rans
from ..rans.streams import (
    PREFIX,
    PREFIX_BY_SEGMENT,
    RANS,
    RAW,
    Effort,
    Plan,
    Sink,
    StreamReader,
    plan_stream,
)

BYTES, PLANES, PALETTE, SPARSE = range(4)
_LEAST_ZEROS = 16
"""A bitmap of the zeros is tried from one zero in 16: below that it cannot pay for its eighth of
a byte per element on elements of two bytes, whose zeros save at most the 10.6 bits a coded weight
takes."""
_PALETTE_CELLS = 1024


def plan_layout(
    raw: Bytes, dtype: Dtype, effort: Effort, memory: str = "plain", nested: bool = False
) -> Plan:
    """Plans the smallest layout of (n,) uint8, n >= 1, read-only.

    ``memory`` names the scratch that the plan lives in: it is void once another is planned under
    that name. ``nested``: no bitmap inside a bitmap.
    """
    size = dtype.item_bytes
    body, tail = raw[: raw.size - raw.size % size], raw[raw.size - raw.size % size :].tobytes()
    plans = []
    if effort.layouts and dtype.group_bytes > 1 and raw.size >= dtype.group_bytes:
        plans.append(plan_fields(raw, dtype, effort))
    if effort.layouts and size > 1 and body.size:
        words = body.view(planes.WORDS[size])
        palette = find_palette(words)
        if palette is not None:
            plans.append(_plan_palette(words, palette, tail, effort))
        elif not nested and _has_many_zeros(words):
            plans.append(_plan_sparse(words, dtype, tail, effort, memory))
        plans.append(_plan_planes(body, dtype, tail, effort, memory))
    if not plans or not dtype.is_float:
        plans.append(_join(BYTES, b"", [plan_stream(raw, effort)], b""))
    return min(plans, key=lambda plan: plan.coded_bytes)


def _has_many_zeros(words: Words) -> bool:
    sample = words[:: max(1, words.size >> 12)]
    return (sample.size - int(np.count_nonzero(sample))) * _LEAST_ZEROS >= sample.size


def _join(layout: int, head: bytes, streams: list[Plan], tail: bytes) -> Plan:
    size = 1 + len(head) + sum(stream.coded_bytes for stream in streams) + len(tail)

    def write(sink: Sink) -> None:
        sink(bytes([layout]) + head)
        for stream in streams:
            stream.write(sink)
        sink(tail)

    return Plan(size, write)


def _plan_planes(body: Bytes, dtype: Dtype, tail: bytes, effort: Effort, memory: str) -> Plan:
    room = scratch(memory, body.size, np.uint8).reshape(dtype.item_bytes, -1)
    planes.split_planes(body, dtype.is_float, room)
    cut = freeze(room)
    pairs = zip(cut, [None, *cut[:-1]], strict=True)
    return _join(PLANES, b"", [plan_stream(plane, effort, before) for plane, before in pairs], tail)


def _plan_palette(words: Words, palette: Words, tail: bytes, effort: Effort) -> Plan:
    places = np.searchsorted(palette, words).astype(np.uint8)
    head = bytes([palette.size - 1]) + palette.tobytes()
    return _join(PALETTE, head, [plan_stream(freeze(places), effort)], tail)


def _plan_sparse(words: Words, dtype: Dtype, tail: bytes, effort: Effort, memory: str) -> Plan:
    kept = words != 0
    bitmap = freeze(np.packbits(kept, bitorder="little"))
    values = freeze(words[kept].view(np.uint8))
    inner = plan_layout(values, dtype, effort, memory + "-kept", nested=True)
    return _join(SPARSE, b"", [plan_stream(bitmap, effort), inner], tail)


@njit(nogil=True, cache=True)
def palette_kernel(words, cells, used, values):
    """Collects the different ``words`` (n,) in the order they appear; returns their number, or -1
    beyond 256.

    ``cells``: (1024,) of the type of ``words`` and ``used``: (1024,) bool, False, are scratch.
    ``values``: (256,).
    """
    found = 0
    for i in range(words.size):
        word = words[i]
        cell = ((np.uint64(word) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(54)) & np.uint64(
            1023
        )
        while used[cell] and cells[cell] != word:
            cell = (cell + np.uint64(1)) & np.uint64(1023)
        if not used[cell]:
            if found == 256:
                return -1
            used[cell] = True
            cells[cell] = word
            values[found] = word
            found += 1
    return found


def find_palette(words: Words) -> Words | None:
    """Returns the different values of ``words`` (n,), sorted, or None when they are more than
    256.
    """
    cells = np.empty(_PALETTE_CELLS, words.dtype)
    values = np.empty(256, words.dtype)
    found = palette_kernel(words, cells, np.zeros(_PALETTE_CELLS, np.bool_), values)
    return None if found < 0 else np.sort(values[:found])


def decode_layout(
    layout: int, reader: StreamReader, dtype: Dtype, out: Bytes, nested: bool = False
) -> None:
    """Decodes a layout into every byte of ``out`` (n,) uint8; mirrors ``plan_layout``."""
    size = dtype.item_bytes
    body, tail = out[: out.size - out.size % size], out[out.size - out.size % size :]
    if layout == BYTES:
        out[:] = reader.take_plane(out.size)
        return
    if layout == FIELDS and dtype.group_bytes > 1:
        decode_fields(reader, dtype, out)
        return
    if layout not in (PLANES, PALETTE, SPARSE) or (nested and layout == SPARSE):
        raise UnsupportedFrame(f"a block of unknown layout {layout}")
    if size == 1 or not body.size:
        raise CorruptFrame("a block without wide elements is cut into them")
    if layout == PLANES:
        _decode_planes(reader, dtype, body)
    elif layout == PALETTE:
        _decode_palette(reader, body.view(planes.WORDS[size]))
    else:
        _decode_sparse(reader, dtype, body.view(planes.WORDS[size]))
    tail[:] = reader.take(tail.size)


def _decode_planes(reader: StreamReader, dtype: Dtype, body: Bytes) -> None:
    count = body.size // dtype.item_bytes
    fused = _take_fused(reader, count) if dtype.item_bytes == 2 and dtype.is_float else None
    if fused is not None:
        _PAIR_DECODERS[fused.kind](fused.exponents, fused.low, body.view(np.uint16))
        return
    cut: list[Bytes] = []
    for _ in range(dtype.item_bytes):
        cut.append(reader.take_plane(count, cut[-1] if cut else None))
    planes.join_planes(cut, body, dtype.is_float)


_PAIR_DECODERS = {
    RANS: rans.decode_pair,
    PREFIX: prefix.decode_pair,
    PREFIX_BY_SEGMENT: prefix.decode_segment_pair,
}


class _Fused(NamedTuple):
    """Coded exponents, of a stream of ``kind``, and the raw plane below them."""

    kind: int
    exponents: Bytes
    low: Bytes


def _take_fused(reader: StreamReader, count: int) -> _Fused | None:
    """Takes entropy-coded exponents and the raw plane below them; None, with nothing taken, where
    ``count`` elements are not coded that way.
    """
    start = reader.offset
    kind, exponents = reader.take_stream()
    low_kind, low = reader.take_stream()
    if kind in _PAIR_DECODERS and (low_kind, low.size) == (RAW, count):
        return _Fused(kind, exponents, low)
    reader.offset = start
    return None


def find_fused(stored: Bytes, out: Bytes) -> tuple[Bytes, Bytes, Words] | None:
    """Returns what ``rans.decode_pair`` takes to decode a stored block of whole 16-bit floats;
    None where it is not coded that way.
    """
    if out.size % 2 or not out.size or not stored.size or stored[0] != PLANES:
        return None
    reader, words = StreamReader(stored, 1), out.view(np.uint16)
    fused = _take_fused(reader, words.size)
    if fused is None or fused.kind != RANS:
        return None
    reader.finish()
    return fused.exponents, fused.low, words


def _decode_palette(reader: StreamReader, words: Words) -> None:
    size = int(reader.take(1)[0]) + 1
    palette = reader.take(size * words.itemsize).copy().view(words.dtype)
    places = reader.take_plane(words.size)
    if int(places.max()) >= size:
        raise CorruptFrame("a block names a value that its palette does not have")
    np.take(palette, places, out=words)


def _decode_sparse(reader: StreamReader, dtype: Dtype, words: Words) -> None:
    bitmap = reader.take_plane(-(-words.size // 8))
    kept = np.unpackbits(bitmap, count=words.size, bitorder="little").view(np.bool_)
    values = np.empty(int(np.count_nonzero(kept)), words.dtype)
    if not values.size:
        raise CorruptFrame("a block keeps none of its elements")
    layout = int(reader.take(1)[0])
    decode_layout(layout, reader, dtype, values.view(np.uint8), nested=True)
    words[:] = 0
    words[kept] = values

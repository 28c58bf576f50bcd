"""Binds the kernels of prefix codes: one plane to coded bytes and back (FORMAT.md, "Prefix
codes").
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, scratch
from ..errors import CorruptFrame
from . import codes, plane_kernels, row_kernels
from .lanes import LANE_HEAD_BYTES, WRITE_SLACK
from .loops import PLANE_LANES, ROW_LANES

SEGMENT_LOG2 = 16
"""Symbols of a plane with one code, as a power of two."""
_SEGMENT_CHOICES = range(8, 25)
MOST_SEGMENTS = 64
"""Segments of a plane that is coded by rows: bounds what a decoder allocates, 4 KiB for each."""
_NO_WORDS = np.empty(0, np.uint16)
_NO_ROOM = np.empty(0, np.uint8)
_NO_LOW = np.empty(0, np.uint8)
_NO_LOW.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes for a plane: (rows, 256) uint8 lengths, how each is written, and what all of it takes
    at most.
    """

    lengths: NDArray[np.uint8]
    tags: NDArray[np.uint8]
    coded_bytes: int


def choose_plane_codes(counts: NDArray[np.uint32]) -> Codes:
    """Chooses a code for each segment of a plane from counts (segments, 256) uint32."""
    found, bits = _choose(counts, codes.PLANE_BITS)
    heads = PLANE_LANES * (LANE_HEAD_BYTES + 1) * counts.shape[0]
    return Codes(*found, 1 + heads + (bits + 7) // 8)


def choose_row_codes(counts: NDArray[np.uint32]) -> Codes:
    """Chooses a code for each row of counts (rows, 256) uint32."""
    found, bits = _choose(counts, codes.ROW_BITS)
    return Codes(*found, ROW_LANES * (LANE_HEAD_BYTES + 1) + (bits + 7) // 8)


def _choose(counts: NDArray[np.uint32], limit: int) -> tuple[tuple[Bytes, Bytes], int]:
    rows = counts.shape[0]
    lengths, tags = np.empty((rows, 256), np.uint8), np.empty(rows, np.uint8)
    room = scratch("merged", codes.MAX_ROOM, np.int64)
    spare = scratch("spare-lengths", 256, np.uint8)
    bits = codes.choose_kernel(counts, limit, room, spare, lengths, tags)
    return (lengths, tags), int(bits)


def encode_plane(symbols: Bytes, chosen: Codes) -> list[bytes | memoryview]:
    """Codes (n,) uint8 with one code per segment; the parts are valid until the next plane is
    coded.
    """
    out = scratch("prefixed", chosen.coded_bytes + WRITE_SLACK, np.uint8)
    table = scratch("codes", 256, np.uint32)
    end = plane_kernels.encode_plane_kernel(
        symbols, SEGMENT_LOG2, chosen.lengths, chosen.tags, table, out
    )
    return [bytes([SEGMENT_LOG2]), out[:end].data]


def encode_segments(symbols: Bytes, chosen: Codes) -> list[bytes | memoryview]:
    """Like ``encode_plane`` with codes of rows, one for each segment, at most ``MOST_SEGMENTS``."""
    lanes = _RowLanes(symbols.size, chosen)
    head = row_kernels.encode_segments_kernel(
        symbols,
        SEGMENT_LOG2,
        chosen.lengths,
        chosen.tags,
        lanes.table,
        lanes.packed,
        lanes.room,
        lanes.ends,
    )
    return [bytes([SEGMENT_LOG2]), *lanes.parts(head)]


def encode_rows(symbols: Bytes, contexts: Bytes, chosen: Codes) -> list[bytes | memoryview]:
    """Codes (n,) uint8 with one code per context, (n,) uint8 below the number of codes.

    The parts are valid until the next plane is coded.
    """
    lanes = _RowLanes(symbols.size, chosen)
    head = row_kernels.encode_rows_kernel(
        symbols,
        contexts,
        chosen.lengths,
        chosen.tags,
        lanes.table,
        lanes.packed,
        lanes.room,
        lanes.ends,
    )
    return lanes.parts(head)


class _RowLanes:
    """Scratch for coding ``count`` symbols by rows."""

    def __init__(self, count: int, chosen: Codes) -> None:
        rows = chosen.tags.size
        self.table = scratch("row-codes", rows * 256, np.uint32).reshape(rows, 256)
        most = rows * codes.MAX_TABLE_BYTES + ROW_LANES * LANE_HEAD_BYTES
        self.packed = scratch("packed-lengths", most, np.uint8)
        share = -(-count // ROW_LANES) * codes.ROW_BITS // 8 + 2 * WRITE_SLACK
        self.room = scratch("prefix-lanes", ROW_LANES * share, np.uint8).reshape(ROW_LANES, share)
        self.ends = np.empty(ROW_LANES, np.int64)

    def parts(self, head: int) -> list[bytes | memoryview]:
        """Returns the tables, which end at ``head``, and every lane."""
        lanes = [self.room[lane, :end].data for lane, end in enumerate(self.ends.tolist())]
        return [self.packed[:head].data, *lanes]


def decode_plane(source: Bytes, out: Bytes) -> None:
    """Decodes ``source`` (read-only uint8) into every element of ``out`` (n,) uint8, n >= 1.

    Raises CorruptFrame when the source is not exactly what ``encode_plane`` writes for n symbols.
    """
    _decode_plane(source, out, _NO_WORDS, _NO_LOW)


def decode_pair(source: Bytes, low: Bytes, out: NDArray[np.uint16]) -> None:
    """Decodes a plane of exponents and joins it with ``low`` (n,) uint8 into 16-bit floats
    ``out`` (n,) uint16.

    Raises CorruptFrame like ``decode_plane``.
    """
    size = min(out.size, 1 << _take_segment(source))
    _decode_plane(source, scratch("segment", size, np.uint8), out, low)


def decode_segments(source: Bytes, out: Bytes) -> None:
    """Like ``decode_plane`` for what ``encode_segments`` writes."""
    _decode_segments(source, out, _NO_WORDS, _NO_LOW)


def decode_segment_pair(source: Bytes, low: Bytes, out: NDArray[np.uint16]) -> None:
    """Like ``decode_pair`` for what ``encode_segments`` writes."""
    _decode_segments(source, _NO_ROOM, out, low)


def _take_segment(source: Bytes) -> int:
    if not source.size or int(source[0]) not in _SEGMENT_CHOICES:
        raise CorruptFrame("a prefix-coded stream has no proper head")
    return int(source[0])


def _decode_plane(source: Bytes, room: Bytes, words: NDArray[np.uint16], low: Bytes) -> None:
    segment_log2 = _take_segment(source)
    lengths = scratch("lengths", 256, np.uint8)
    entries = scratch("plane-entries", 2 << codes.PLANE_BITS, np.uint64)
    at = plane_kernels.decode_plane_kernel(source, segment_log2, lengths, entries, room, words, low)
    _check_end(source, at)


def _decode_segments(source: Bytes, out: Bytes, words: NDArray[np.uint16], low: Bytes) -> None:
    segment_log2 = _take_segment(source)
    rows = ((max(out.size, words.size) - 1) >> segment_log2) + 1
    if rows > MOST_SEGMENTS:
        raise CorruptFrame("a prefix-coded stream has too many segments")
    at = row_kernels.decode_segments_kernel(
        source,
        segment_log2,
        scratch("lengths", 256, np.uint8),
        row_entries(rows),
        scratch("chunk", row_kernels.CHUNK, np.uint8),
        scratch("found", row_kernels.CHUNK, np.uint16),
        out,
        words,
        low,
    )
    _check_end(source, at)


def _check_end(source: Bytes, at: int) -> None:
    if at != source.size:
        raise CorruptFrame("a prefix-coded stream does not decode")


def decode_rows(source: Bytes, contexts: Bytes, rows: int, out: Bytes) -> None:
    """Decodes into ``out`` (n,) uint8 with one of ``rows`` codes for each symbol, ``contexts``
    (n,) uint8 below rows.

    Raises CorruptFrame like ``decode_plane``.
    """
    lengths, entries = scratch("lengths", 256, np.uint8), row_entries(rows)
    room = scratch("found", row_kernels.CHUNK, np.uint16)
    _check_end(
        source, row_kernels.decode_rows_kernel(source, contexts, lengths, entries, room, out)
    )


def row_entries(rows: int) -> NDArray[np.uint16]:
    """Returns scratch for what a decoder looks up, (rows, 2048) uint16."""
    entries = scratch("row-entries", rows << codes.ROW_BITS, np.uint16)
    return entries.reshape(rows, 1 << codes.ROW_BITS)

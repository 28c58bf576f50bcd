"""Codes one plane in the cheapest of several ways (FORMAT.md, "Streams").

    kind 1 | payload bytes 4 | payload

Planning is apart from writing, so that a block can compare layouts by their exact price and write
only one.
"""

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import zstandard
from numpy.typing import NDArray

from ..buffers import Bytes, freeze
from ..errors import CorruptFrame, UnsupportedFrame
from ..prefix import prefix
from . import contexts, rans

RAW, CONSTANT, RANS, ZSTD, RANS_BY_PREVIOUS, RANS_BY_GROUP = range(6)
PREFIX, PREFIX_BY_PREVIOUS, PREFIX_BY_SEGMENT = range(6, 9)
HEAD = struct.Struct("<BI")
_PROBE_BYTES = 1 << 12
"""Whole MiniLM in bf16 encodes at 2030 MB/s with probes of 4 KiB, at 1770 with 8 KiB."""
_SAMPLE_BYTES = 1 << 11
_local = threading.local()

Parts = list[bytes | memoryview]
Sink = Callable[[bytes | memoryview], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """What an encoder may spend, and what it must gain.

    ``zstd_level``: of streams where zstd may win, None for no zstd. ``entropy``: entropy codes are
    allowed. ``layouts``: cutting into planes, palettes and bitmaps are allowed. ``contexts``:
    tables by context are tried. ``min_gain``: the least part of a plane that coding it must save,
    because a raw plane decodes faster. ``prefix``: prefix codes instead of rANS, where they cost
    little.
    """

    zstd_level: int | None
    entropy: bool
    layouts: bool
    contexts: bool
    min_gain: float
    prefix: bool = False


PLAIN = Effort(zstd_level=3, entropy=True, layouts=False, contexts=False, min_gain=0.0)
PLAIN_FAST = replace(PLAIN, zstd_level=None, prefix=True)
_PREFIX_LOSS = 1 / 32
"""By how much of its size a prefix code may be larger than rANS, which decodes at a third of its
speed."""
_LEAST_GAIN = 1 / 64
"""What contexts must gain over one prefix code."""
_LONG_BITS = 4.5
"""Mean length of codes above which a look-up gives hardly more than one symbol, and eight lanes of
one symbol each are faster than four of several."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to code something: the bytes it will take, and how to write them.

    ``coded_bytes`` may be a few bytes above what is written. ``write`` passes the bytes on, part
    by part; a part may lie in memory that the next one overwrites.
    """

    coded_bytes: int
    write: Callable[[Sink], None]


def compress_zstd(data: memoryview, level: int) -> bytes:
    """Returns one zstd frame with its content size in it."""
    compressors = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressors[level].compress(data)


def decompress_zstd(payload: memoryview, raw_bytes: int) -> bytes:
    """Returns the content of one zstd frame; raises CorruptFrame unless it is exactly
    ``raw_bytes`` long.
    """
    try:
        # The library allocates by the size the frame claims: it is checked first.
        if zstandard.frame_content_size(payload) != raw_bytes:
            raise CorruptFrame("a zstd stream does not have the length of its plane")
        if "decompressor" not in _local.__dict__:
            _local.decompressor = zstandard.ZstdDecompressor()
        return _local.decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptFrame(f"a zstd stream does not decode: {error}") from None


def plan_stream(plane: Bytes, effort: Effort, previous: Bytes | None = None) -> Plan:
    """Plans the cheapest coding of (n,) uint8, n >= 1, read-only; ``previous``: the plane before
    it in the block.
    """
    if previous is not None and not effort.contexts and _looks_random(plane, effort.min_gain):
        return _plan(RAW, plane.size, lambda: [plane.data])
    coded = _plan_prefix(plane) if effort.prefix else _plan_rans(plane)
    if coded is None:
        return _plan(CONSTANT, 1, lambda: [plane[:1].tobytes()])
    best = _plan(RAW, plane.size, lambda: [plane.data])
    if effort.entropy:
        enough = best.coded_bytes - effort.min_gain * plane.size
        if coded.coded_bytes - HEAD.size < enough:
            best = coded
        if effort.contexts:
            plans = _plan_contexts(plane, effort, previous)
            best = min([best, *(p for p in plans if _is_worth(p, best, effort))], key=_price)
    if effort.zstd_level is not None and _zstd_may_win(plane, best.coded_bytes):
        payload = compress_zstd(plane.data, effort.zstd_level)
        best = min(best, _plan(ZSTD, len(payload), lambda: [payload]), key=_price)
    return best


def _plan_rans(plane: Bytes) -> Plan | None:
    """Plans rANS; None for a plane of one value."""
    chosen, distinct = rans.survey(plane)
    if distinct == 1:
        return None
    return _plan(RANS, chosen.coded_bytes, lambda: rans.encode_plane(plane, chosen))


def _plan_prefix(plane: Bytes) -> Plan | None:
    """Plans prefix codes, or rANS where that is much smaller; None for a plane of one value."""
    counts = rans.count_segments(plane, prefix.SEGMENT_LOG2)
    if np.count_nonzero(counts.any(axis=0)) == 1:
        return None
    mean = prefix.choose_plane_codes(counts.sum(axis=0, dtype=np.uint32)[None]).coded_bytes
    if mean >= _LONG_BITS / 8 * plane.size and len(counts) <= prefix.MOST_SEGMENTS:
        rows = prefix.choose_row_codes(counts)
        size = 1 + rows.coded_bytes
        return _plan(PREFIX_BY_SEGMENT, size, lambda: prefix.encode_segments(plane, rows))
    codes = prefix.choose_plane_codes(counts)
    tables = choose_if_smaller(counts, codes.coded_bytes)
    if tables is None:
        return _plan(PREFIX, codes.coded_bytes, lambda: prefix.encode_plane(plane, codes))
    segment_log2 = prefix.SEGMENT_LOG2
    return _plan(RANS, tables.coded_bytes, lambda: rans.encode_plane(plane, tables, segment_log2))


Rows = rans.Tables | prefix.Codes
"""What codes each symbol by its context."""


def choose_rows(counts: NDArray[np.uint32], effort: Effort) -> Rows:
    """Chooses what codes symbols by context, from counts (contexts, 256), the first row of which
    is not empty.
    """
    if not effort.prefix:
        return rans.choose_tables(counts)
    codes = prefix.choose_row_codes(counts)
    return choose_if_smaller(counts, codes.coded_bytes) or codes


def encode_rows(symbols: Bytes, rows: Bytes, chosen: Rows) -> Parts:
    """Codes (n,) uint8 with what was chosen for each of ``rows``, (n,) uint8; the parts are valid
    until the next plane is coded.
    """
    if isinstance(chosen, prefix.Codes):
        return prefix.encode_rows(symbols, rows, chosen)
    return rans.encode_contexts(symbols, rows, chosen)


def choose_if_smaller(counts: NDArray[np.uint32], prefix_bytes: int) -> rans.Tables | None:
    """Returns tables of rANS for counts (rows, 256) where they make that much smaller than prefix
    codes, of ``prefix_bytes``, that they are worth the time; else None.

    A symbol cannot take less than a bit there, which matters where one is more likely than all
    others together.
    """
    if int(counts.max(axis=1).sum()) * 2 < int(counts.sum()):
        return None
    tables = rans.choose_tables(counts)
    return tables if tables.coded_bytes * (1 + _PREFIX_LOSS) < prefix_bytes else None


def plan_guided(plane: Bytes, guide: Bytes, effort: Effort) -> Plan:
    """Plans the cheapest coding of (n,) uint8, n >= 1, beside a guide of the same length, both
    read-only: as many tables as pay, each for a range of the guide's values.

    Decoded like any stream, with the guide as the plane before it.
    """
    best = plan_stream(plane, effort)
    if not effort.entropy or best.coded_bytes <= HEAD.size + rans.LEAST_BYTES:
        return best
    cuts = contexts.merge_contexts(rans.count_contexts(plane, guide, 256))
    if not cuts.size:
        return best
    rows = contexts.contexts_by_previous(guide, cuts)
    head: Parts = [cuts.tobytes()]
    return min(best, _plan_rows(plane, rows, cuts.size + 1, head, effort), key=_price)


def _plan(kind: int, payload_bytes: int, encode: Callable[[], Parts]) -> Plan:
    def write(sink: Sink) -> None:
        payload = encode()
        sink(HEAD.pack(kind, sum(len(part) for part in payload)))
        for part in payload:
            sink(part)

    return Plan(HEAD.size + payload_bytes, write)


def _price(plan: Plan) -> int:
    return plan.coded_bytes


def _is_worth(plan: Plan, simple: Plan, effort: Effort) -> bool:
    """Tells whether contexts gain what their time costs: nothing to speak of beside rANS, as much
    again beside prefix codes.
    """
    gain = _LEAST_GAIN if effort.prefix else 0
    return plan.coded_bytes * (1 + gain) < simple.coded_bytes


def _plan_contexts(plane: Bytes, effort: Effort, previous: Bytes | None) -> list[Plan]:
    plans = []
    if previous is not None:
        cuts = contexts.choose_cuts(previous)
        rows = contexts.contexts_by_previous(previous, cuts)
        plans.append(_plan_rows(plane, rows, cuts.size + 1, [cuts.tobytes()], effort))
    if plane.size >= contexts.GROUP * contexts.CLASSES and not effort.prefix:
        classes = contexts.classify_groups(plane)
        rows = contexts.contexts_by_group(classes, plane.size)
        head: Parts = []
        plan_stream(freeze(classes), PLAIN).write(head.append)
        tables = rans.choose_tables(rans.count_contexts(plane, rows, contexts.CLASSES))
        plans.append(_plan_chosen(RANS_BY_GROUP, plane, rows, tables, head))
    return plans


def _plan_rows(plane: Bytes, rows: Bytes, count: int, head: Parts, effort: Effort) -> Plan:
    """Plans tables by the plane before; ``rows``: which of ``count`` each symbol uses."""
    chosen = choose_rows(rans.count_contexts(plane, rows, count), effort)
    is_prefix = isinstance(chosen, prefix.Codes)
    kind = PREFIX_BY_PREVIOUS if is_prefix else RANS_BY_PREVIOUS
    return _plan_chosen(kind, plane, rows, chosen, head)


def _plan_chosen(kind: int, plane: Bytes, rows: Bytes, chosen: Rows, head: Parts) -> Plan:
    size = 1 + sum(len(part) for part in head) + chosen.coded_bytes

    def encode() -> Parts:
        return [bytes([chosen.tags.size]), *head, *encode_rows(plane, rows, chosen)]

    return _plan(kind, size, encode)


def _looks_random(plane: Bytes, min_gain: float) -> bool:
    """Tells from every sixteenth piece of a large plane that no symbol is frequent enough to code
    it.
    """
    pieces = plane.size // _SAMPLE_BYTES
    if pieces < 64:
        return False
    grid = plane[: pieces * _SAMPLE_BYTES].reshape(pieces, _SAMPLE_BYTES)
    sample = freeze(np.ascontiguousarray(grid[::16]).reshape(-1))
    coded_bytes = rans.survey(sample)[0].coded_bytes - rans.LEAST_BYTES
    return coded_bytes > (1 - min_gain) * sample.size and not _zstd_may_win(plane, plane.size)


def _zstd_may_win(plane: Bytes, best: int) -> bool:
    """Tries zstd on a piece from the middle: matches that pay at all show up in 4 KiB."""
    if plane.size <= 2 * _PROBE_BYTES:
        return True
    middle = (plane.size - _PROBE_BYTES) // 2
    probe = len(compress_zstd(plane[middle : middle + _PROBE_BYTES].data, 1))
    return probe * plane.size < best * _PROBE_BYTES


@dataclass(slots=True)
class StreamReader:
    """Takes the streams of one stored block off its front, from ``offset`` on."""

    stored: Bytes
    offset: int

    def take(self, count: int) -> Bytes:
        """Returns the next ``count`` bytes; raises CorruptFrame when they are not there."""
        if count > self.stored.size - self.offset:
            raise CorruptFrame("a block ends inside one of its streams")
        self.offset += count
        return self.stored[self.offset - count : self.offset]

    def take_stream(self) -> tuple[int, Bytes]:
        """Returns kind and payload of the next stream."""
        kind, payload_bytes = HEAD.unpack(self.take(HEAD.size).data)
        return kind, self.take(payload_bytes)

    def take_plane(self, count: int, previous: Bytes | None = None) -> Bytes:
        """Decodes the next stream into (count,) uint8, read-only; ``count`` >= 1."""
        kind, payload = self.take_stream()
        return decode_stream(kind, payload, count, previous)

    def finish(self) -> None:
        """Raises CorruptFrame when bytes are left over."""
        if self.offset != self.stored.size:
            raise CorruptFrame("a block has bytes after its last stream")


_PLANE_DECODERS = {
    RANS: rans.decode_plane,
    PREFIX: prefix.decode_plane,
    PREFIX_BY_SEGMENT: prefix.decode_segments,
}


def decode_stream(kind: int, payload: Bytes, count: int, previous: Bytes | None) -> Bytes:
    """Decodes one stream into (count,) uint8, read-only, perhaps a view of the payload."""
    if kind == RAW:
        if payload.size != count:
            raise CorruptFrame("a raw stream does not have the length of its plane")
        return payload
    if kind == CONSTANT:
        if payload.size != 1:
            raise CorruptFrame("a constant stream is not one byte")
        return freeze(np.full(count, payload[0], np.uint8))
    if kind == ZSTD:
        return freeze(np.frombuffer(decompress_zstd(payload.data, count), np.uint8))
    out = np.empty(count, np.uint8)
    if kind in _PLANE_DECODERS:
        _PLANE_DECODERS[kind](payload, out)
    elif kind in (RANS_BY_PREVIOUS, PREFIX_BY_PREVIOUS):
        _decode_by_previous(kind, payload, previous, out)
    elif kind == RANS_BY_GROUP:
        _decode_by_group(payload, out)
    else:
        raise UnsupportedFrame(f"a stream of unknown kind {kind}")
    return freeze(out)


def _decode_by_previous(
    kind: int, payload: Bytes, previous: Bytes | None, out: NDArray[np.uint8]
) -> None:
    reader = StreamReader(payload, 0)
    rows = int(reader.take(1)[0])
    if previous is None or previous.size != out.size or not 0 < rows <= contexts.MAX_ROWS:
        raise CorruptFrame("a stream with contexts has no plane to take them from")
    chosen = contexts.contexts_by_previous(previous, reader.take(rows - 1))
    decode = rans.decode_contexts if kind == RANS_BY_PREVIOUS else prefix.decode_rows
    decode(payload[reader.offset :], chosen, rows, out)


def _decode_by_group(payload: Bytes, out: NDArray[np.uint8]) -> None:
    reader = StreamReader(payload, 0)
    rows = int(reader.take(1)[0])
    kind, classes_payload = reader.take_stream()
    if kind > ZSTD or not 0 < rows <= contexts.MAX_ROWS:
        raise CorruptFrame("a stream with contexts does not say which")
    count = -(-out.size // contexts.GROUP)
    classes = decode_stream(kind, classes_payload, count, None)
    if int(classes.max()) >= rows:
        raise CorruptFrame("a stream uses a context that it has no table for")
    chosen = contexts.contexts_by_group(classes, out.size)
    rans.decode_contexts(payload[reader.offset :], chosen, rows, out)

"""Codes a block as differences to its base (FORMAT.md, "Differences").

Two encodings: of 16-bit words, which also serves the top half of wider elements, and of bytes.
Wider elements add a plane for each byte below.
"""

import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, freeze, scratch
from ..dtypes import Exponent
from ..errors import CorruptFrame
from ..prefix import prefix
from ..rans import rans, tables
from ..rans.streams import (
    PLAIN,
    PLAIN_FAST,
    Effort,
    Plan,
    Rows,
    Sink,
    StreamReader,
    choose_rows,
    encode_rows,
    plan_stream,
)
from ..simd.paths import path_number
from . import difference_kernels as kernels
from . import difference_prefixed as prefixed
from .scales import Scales, count_rows, move_base

MAX_TABLES = 64
"""Contexts times 4096 slots of 4 bytes are what a decoder allocates: 1 MiB at most."""
LIMIT = 104
"""Differences that have a symbol of their own, each way. MiniLM tuned at 1e-4 in bf16, per cent
of raw: 110 34.92, 100 34.98, 64 35.37, 32 36.50. The larger it is, the shorter the reach of the
other symbols."""
_LIMIT_F16 = 80
"""The same for F16, whose differences are eight times as large: 100 44.14, 80 44.02, 64 44.29."""
_REACH_OCTAVES = 14
"""The first context is for movements of 2**14 units in the last place."""
_MOST_FAR = 64
"""One element in 64 may be out of reach: each costs 6 bytes."""
_HEAD = struct.Struct("<BBiBIII")
_XORED, _HAS_COLUMNS, _HAS_CENTRES, _PREFIXED = 4, 8, 64, 128


@dataclass(frozen=True, slots=True)
class Manner:
    """How words become symbols and contexts: what a stored block says before its streams.

    ``xored``: the symbol of a near word is its XOR with the base, not the difference.
    ``low_bits``: how many of the lowest bits of the base are part of the context. ``origin``:
    added to the exponent's context. ``top``: the highest context, before the low bits.
    ``prefixed``: symbols have prefix codes.
    """

    fine: int
    origin: int
    top: int
    xored: bool = False
    low_bits: int = 0
    limit: int = LIMIT
    prefixed: bool = False

    @property
    def table_count(self) -> int:
        """How many frequency tables the contexts need."""
        return (self.top + 1) << self.low_bits

    def spec(self, kind: Exponent) -> NDArray[np.int32]:
        """Returns (9,) int32 as the kernels want it."""
        low_mask = (1 << self.low_bits) - 1
        reach = reach_of(self.limit)
        shift = max(0, kind.shift - self.fine)
        numbers = (shift, kind.mask << self.fine, self.origin, self.top)
        more = (self.low_bits, low_mask, self.limit, reach, int(self.xored))
        return freeze(np.array([*numbers, *more], np.int32))


def reach_of(limit: int) -> int:
    """Returns by how much an upper byte may differ: what the 256 symbols leave room for."""
    return (253 - 2 * limit) // 4


def choose_manner(kind: Exponent, scales: Scales, xored: bool = False, low_bits: int = 0) -> Manner:
    """Returns a manner whose contexts cover 32 octaves, or fewer where low bits take tables."""
    top = (MAX_TABLES >> low_bits) - 1
    octaves = _REACH_OCTAVES - kind.mantissa + kind.bias
    origin = (octaves << scales.fine) - scales.lowest
    limit = _LIMIT_F16 if kind.mantissa == 10 else LIMIT
    return Manner(scales.fine, origin, top, xored, low_bits, limit)


@dataclass(slots=True)
class Coded:
    """Symbols of one block with their contexts, and the tables for them.

    ``contexts``: (n,) uint8 below ``manner.table_count``. ``far``: indexes of elements out of
    reach, (f,) uint32, and ``far_words`` what they are. ``stored``: how many lower bytes are
    stored.
    """

    manner: Manner
    scales: Scales
    symbols: Bytes
    contexts: Bytes
    chosen: Rows
    counts: NDArray[np.uint32]
    far: NDArray[np.uint32]
    far_words: NDArray[np.uint16]
    stored: int

    def unchanged(self) -> int:
        """Returns the number of elements that equal the base."""
        still = 0 if self.manner.xored else self.manner.limit
        return int(self.counts[:, still].sum()) - self.far.size


def count_bytes(
    symbols: Bytes, contexts: Bytes, manner: Manner
) -> tuple[NDArray[np.uint32], Manner]:
    """Counts symbols by context; see ``trim``."""
    counts, others = np.zeros((2, manner.table_count, 256), np.uint32)
    kernels.count_kernel(freeze(symbols), freeze(contexts), counts, others)
    return trim(counts, contexts, manner)


def trim(
    counts: NDArray[np.uint32], contexts: Bytes, manner: Manner
) -> tuple[NDArray[np.uint32], Manner]:
    """Drops the contexts below and above those in use.

    Changes ``contexts`` in place. Returns the counts of those that are left and the manner that
    gives them.
    """
    used = np.flatnonzero(counts.any(axis=1))
    first, last = int(used[0]) >> manner.low_bits, int(used[-1]) >> manner.low_bits
    if first:
        np.subtract(contexts, first << manner.low_bits, out=contexts)
    trimmed = replace(manner, origin=manner.origin - first, top=last - first)
    begin = first << manner.low_bits
    return counts[begin : begin + trimmed.table_count], trimmed


def code_words(
    target: NDArray[np.uint16],
    base: NDArray[np.uint16],
    kind: Exponent,
    scales: Scales,
    manner: Manner,
    effort: Effort,
    memory: str,
) -> Coded | None:
    """Turns (n,) words into symbols and chooses their tables; None where too many are out of
    reach.

    The result lives in scratch ``memory``.
    """
    spec = manner.spec(kind)
    symbols = scratch(memory + "-symbols", target.size, np.uint8)
    contexts = scratch(memory + "-contexts", target.size, np.uint8)
    far_counts = np.empty(-(-target.size // kernels.FAR_CHUNK), np.int32)
    counts = np.zeros((2, manner.table_count, 256), np.uint32)
    stored = kernels.survey_kernel(
        path_number(),
        target,
        base,
        scales.rows,
        scales.columns,
        scales.length,
        scales.phase,
        spec,
        scratch("survey", 3 * kernels.FAR_CHUNK, np.uint8),
        symbols,
        contexts,
        far_counts,
        counts,
    )
    far_count = int(far_counts.sum())
    if far_count * _MOST_FAR > target.size:
        return None
    far = np.empty(far_count, np.uint32)
    if far_count:
        kernels.find_far_kernel(target, base, spec, far_counts, far)
    kept, trimmed = trim(counts[0] + counts[1], contexts, manner)
    chosen = choose_rows(begin_used(kept), effort)
    return Coded(
        replace(trimmed, prefixed=isinstance(chosen, prefix.Codes)),
        scales,
        freeze(symbols),
        freeze(contexts),
        chosen,
        kept,
        far,
        target[far],
        int(stored),
    )


def begin_used(counts: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Gives the first row one symbol where it has none, as ``choose_tables`` asks."""
    if not counts[0].any():
        counts = counts.copy()
        counts[0, int(counts.sum(axis=0).argmax())] = 1
    return counts


def finish_bytes(
    manner: Manner,
    scales: Scales,
    symbols: Bytes,
    contexts: Bytes,
    counts: NDArray[np.uint32],
    effort: Effort,
) -> Coded:
    """Chooses tables for elements of one byte, whose symbols say everything."""
    chosen = choose_rows(begin_used(counts), effort)
    none = np.empty(0, np.uint32), np.empty(0, np.uint16)
    manner = replace(manner, limit=0, prefixed=isinstance(chosen, prefix.Codes))
    return Coded(manner, scales, symbols, contexts, chosen, counts, *none, 0)


def plan_coded(coded: Coded, target: NDArray[np.uint16] | None) -> Plan:
    """Plans how ``coded`` is written; ``target``: the words whose lower bytes are stored, None
    for bytes.
    """
    head = _pack_head(coded)
    side = [coded.scales.rows, coded.scales.columns, *split_centres(coded.scales)]
    plain = PLAIN_FAST if coded.manner.prefixed else PLAIN
    scales = [plan_stream(plane, plain) for plane in side if plane.size]
    size = len(head) + sum(plan.coded_bytes for plan in scales) + coded.stored
    size += 4 + coded.chosen.coded_bytes + 6 * coded.far.size

    def write(sink: Sink) -> None:
        sink(head)
        for plan in scales:
            plan.write(sink)
        sink(coded.far.tobytes())
        sink(coded.far_words.tobytes())
        if target is not None:
            sink(_pick_lower(coded, target).data)
        parts = encode_rows(coded.symbols, coded.contexts, coded.chosen)
        sink(sum(len(part) for part in parts).to_bytes(4, "little"))
        for part in parts:
            sink(part)

    return Plan(size, write)


def _pick_lower(coded: Coded, target: NDArray[np.uint16]) -> Bytes:
    size = coded.stored + kernels.PICK_SLACK
    picked = scratch("picked", size, np.uint16)
    path = path_number()
    kernels.pick_lower_kernel(path, target, coded.symbols, coded.manner.limit, picked)
    return picked[kernels.PICK_SLACK :].astype(np.uint8)


def _pack_head(coded: Coded) -> bytes:
    manner, scales = coded.manner, coded.scales
    flags = manner.fine | manner.low_bits << 4
    flags |= _XORED if manner.xored else 0
    flags |= _HAS_COLUMNS if scales.columns.size else 0
    flags |= _HAS_CENTRES if scales.centres.size else 0
    flags |= _PREFIXED if manner.prefixed else 0
    head = _HEAD.pack(
        flags, manner.limit, manner.origin, manner.top, scales.length, scales.phase, coded.far.size
    )
    return head + coded.stored.to_bytes(4, "little")


def split_centres(scales: Scales) -> list[Bytes]:
    """Returns the lower and the upper bytes of the centres."""
    cells = scales.centres.view(np.uint8).reshape(-1, 2)
    return [freeze(np.ascontiguousarray(cells[:, place])) for place in range(2)]


def take_head(reader: StreamReader, count: int) -> tuple[Manner, Scales, int, int]:
    """Reads manner, scales, and the numbers of far elements and of lower bytes of ``count``
    elements.

    Raises CorruptFrame for anything a writer would not have written.
    """
    flags, limit, origin, top, length, phase, far = _HEAD.unpack(reader.take(_HEAD.size).data)
    stored = int.from_bytes(reader.take(4).data, "little")
    is_xored, is_prefixed = bool(flags & _XORED), bool(flags & _PREFIXED)
    manner = Manner(flags & 3, origin, top, is_xored, flags >> 4 & 3, limit, is_prefixed)
    has_columns = bool(flags & _HAS_COLUMNS)
    if manner.fine == 3 or manner.table_count > MAX_TABLES or limit > 126 or abs(origin) >= 1 << 20:
        raise CorruptFrame("a block of differences has an impossible head")
    if not 0 <= phase < length or (has_columns and length > count) or far > count or stored > count:
        raise CorruptFrame("a block of differences has an impossible head")
    row_count = count_rows(count, length, phase)
    scales = Scales(manner.fine, length, phase, 0, reader.take_plane(row_count))
    if has_columns:
        scales = replace(scales, columns=reader.take_plane(length))
    if flags & _HAS_CENTRES:
        halves = reader.take_plane(row_count), reader.take_plane(row_count)
        centres = np.stack(halves, axis=1).reshape(-1).view(np.int16)
        scales = replace(scales, centres=freeze(centres))
    return manner, scales, far, stored


def decode_words(
    reader: StreamReader, base: NDArray[np.uint16], kind: Exponent, out: NDArray[np.uint16]
) -> tuple[Manner, Scales]:
    """Decodes words into ``out`` (n,) against ``base`` (n,); mirrors ``plan_coded``.

    Returns the manner and the scales, from which the contexts of the words follow.
    """
    manner, scales, far_count, stored = take_head(reader, out.size)
    base = move_base(base, scales)
    far = reader.take(4 * far_count).copy().view(np.uint32)
    far_words = reader.take(2 * far_count).copy().view(np.uint16)
    lower = scratch("lower", out.size + kernels.LOWER_SLACK, np.uint8)
    lower[:stored] = reader.take(stored)
    source = reader.take(int.from_bytes(reader.take(4).data, "little"))
    restore = _restore_prefixed if manner.prefixed else _restore
    taken = restore(source, base, scales, kind, manner, freeze(lower), out)
    if taken != stored or (far_count and int(far.max()) >= out.size):
        raise CorruptFrame("a block of differences does not decode")
    out[far] = far_words
    return manner, scales


def _restore_prefixed(
    source: Bytes,
    base: NDArray[np.uint16],
    scales: Scales,
    kind: Exponent,
    manner: Manner,
    lower: Bytes,
    out: NDArray[np.uint16],
) -> int:
    """Decodes the words but the far ones; returns how many lower bytes they took."""
    taken = prefixed.restore_kernel(
        path_number(),
        source,
        base,
        scales.rows,
        scales.columns,
        scales.length,
        scales.phase,
        scratch("chunk", 2 * prefixed.CHUNK, np.uint8).reshape(2, -1),
        scratch("found", prefixed.CHUNK, np.uint16),
        manner.spec(kind),
        scratch("lengths", 256, np.uint8),
        prefix.row_entries(manner.table_count),
        lower,
        out,
    )
    if taken < 0:
        raise CorruptFrame("a block of differences does not decode")
    return taken


def _restore(
    source: Bytes,
    base: NDArray[np.uint16],
    scales: Scales,
    kind: Exponent,
    manner: Manner,
    lower: Bytes,
    out: NDArray[np.uint16],
) -> int:
    """Like ``_restore_prefixed``, of words coded by rANS."""
    states = rans.open_stream(source, 0)
    slots = scratch("difference-slots", MAX_TABLES * tables.SCALE, np.uint32)
    slots = slots.reshape(MAX_TABLES, -1)[: manner.table_count]
    freqs = scratch("freqs", 256, np.uint16)
    at = kernels.parse_slots_kernel(source, rans.STATES_BYTES, freqs, slots)
    if at < 0:
        raise CorruptFrame("a block of differences has an impossible table")
    at, taken = kernels.restore_kernel(
        path_number(),
        source,
        at,
        base,
        scales.rows,
        scales.columns,
        scales.length,
        scales.phase,
        scratch("chunk", 3 * kernels.CHUNK, np.uint8).reshape(3, -1),
        manner.spec(kind),
        slots,
        states,
        lower,
        out,
    )
    rans.close_stream(source, at, states)
    return taken

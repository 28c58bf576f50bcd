"""Binds the entropy coder's kernels: symbols of one plane to coded bytes and back (FORMAT.md,
"rANS").
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import rans_scalar, tables
from .errors import CorruptFrame

Bytes = NDArray[np.uint8]

SEGMENT_LOG2 = 17
"""Symbols per frequency table, as a power of two. Whole MiniLM in bf16, bits per exponent with
the tables' bytes included: 2^16 2.597, 2^17 2.599, 2^18 2.603, 2^19 2.609; the larger costs less
time."""

_HEAD_BYTES = 1 + 4 * rans_scalar.LANES
_COST_HEAD = 8 * _HEAD_BYTES * tables.COST_ONE_BIT


@dataclass(slots=True)
class Plan:
    """What coding a plane would take: one frequency table per segment, and the price of it all."""

    segment_log2: int
    freqs: NDArray[np.uint16]
    is_new: NDArray[np.bool_]
    coded_bytes: int


def count_symbols(symbols: Bytes, segment_log2: int = SEGMENT_LOG2) -> NDArray[np.uint32]:
    """Counts each of the 256 symbols in every segment of (n,) uint8: (segments, 256) uint32."""
    segment = 1 << segment_log2
    counts = np.zeros((-(-symbols.size // segment), 256), np.uint32)
    tables.count_kernel(symbols, segment, counts)
    return counts


def plan_tables(counts: NDArray[np.uint32], segment_log2: int = SEGMENT_LOG2) -> Plan:
    """Chooses for every segment between a table of its own and the one before it; the cheaper wins.

    ``counts``: (segments, 256) uint32, at least two different symbols in them.
    """
    segments = counts.shape[0]
    freqs = np.zeros((segments, 256), np.uint16)
    is_new = np.zeros(segments, np.bool_)
    scratch = np.empty(tables.MAX_TABLE_BYTES, np.uint8)
    cost = int(tables.plan_kernel(counts, tables.COSTS, freqs, is_new, scratch)) + _COST_HEAD
    return Plan(segment_log2, freqs, is_new, -(-cost // (8 * tables.COST_ONE_BIT)))


def encode_symbols(symbols: Bytes, plan: Plan) -> bytes:
    """Codes (n,) uint8 with the tables of ``plan``."""
    states = np.full(rans_scalar.LANES, rans_scalar.LOWER_BOUND, np.uint32)
    words = np.empty(symbols.size, np.uint16)
    at = rans_scalar.encode_segments_kernel(symbols, plan.segment_log2, plan.freqs, states, words)
    packed = np.empty(plan.freqs.shape[0] * tables.MAX_TABLE_BYTES, np.uint8)
    end = tables.pack_tables_kernel(plan.freqs, plan.is_new, packed)
    head = struct.pack("<B", plan.segment_log2)
    return b"".join((head, states.tobytes(), packed[:end].tobytes(), words[at:].tobytes()))


def decode_symbols(source: Bytes, out: Bytes) -> None:
    """Decodes ``source`` (uint8, read-only) into every element of ``out`` (n,) uint8.

    Raises CorruptFrame when the source is not exactly what ``encode_symbols`` writes for n symbols.
    """
    if source.size < _HEAD_BYTES or not 6 <= source[0] <= 31:
        raise CorruptFrame("an entropy-coded stream has no proper head")
    states = source[1:_HEAD_BYTES].copy().view(np.uint32)
    slots = np.empty(tables.SCALE, np.uint32)
    freqs = np.zeros(256, np.uint16)
    at = rans_scalar.decode_segments_kernel(source, int(source[0]), freqs, slots, states, out)
    if at != source.size or (states != rans_scalar.LOWER_BOUND).any():
        raise CorruptFrame("an entropy-coded stream does not decode")

"""Binds the entropy coder's kernels: one plane to coded bytes and back (FORMAT.md, "rANS").

A coded plane is ``segment_log2 1 | 64 states of 4 bytes | tables | words of 2 bytes``, or, with
contexts, ``64 states | tables | words``. Bindings check, allocate and raise; kernels do none of
that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, scratch
from ..errors import CorruptFrame
from ..simd.paths import path_number
from . import kernels, tables
from .scalar import LANES, LOWER_BOUND

SEGMENT_LOG2 = 17
"""Symbols per frequency table, as a power of two. Whole MiniLM in bf16, bits per exponent with
the tables' bytes included: 2^16 2.597, 2^17 2.599, 2^18 2.603, 2^19 2.609; the larger costs less
time."""

STATES_BYTES = 4 * LANES
LEAST_BYTES = 1 + STATES_BYTES
"""What a coded plane takes beside its tables and words."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Frequency tables for a plane: (rows, 256) uint16, how each is written, and what all of it
    takes.
    """

    freqs: NDArray[np.uint16]
    tags: NDArray[np.uint8]
    coded_bytes: int


def count_contexts(symbols: Bytes, contexts: Bytes, rows: int) -> NDArray[np.uint32]:
    """Counts each symbol in every context: (rows, 256) uint32; every context is below ``rows``."""
    counts = np.zeros((rows, 256), np.uint32)
    tables.count_contexts_kernel(symbols, contexts, counts)
    return counts


def count_segments(symbols: Bytes, segment_log2: int = SEGMENT_LOG2) -> NDArray[np.uint32]:
    """Counts each symbol of (n,) uint8, n >= 1, in every segment: (segments, 256) uint32."""
    parts = scratch("counts", 8 * 256, np.uint32).reshape(8, 256)
    counts = np.empty((-(-symbols.size // (1 << segment_log2)), 256), np.uint32)
    tables.count_kernel(symbols, 1 << segment_log2, parts, counts)
    return counts


def choose_tables(counts: NDArray[np.uint32]) -> Tables:
    """Chooses the cheapest table for each row of counts, (rows, 256) uint32, the first of them
    not empty.
    """
    rows = counts.shape[0]
    freqs, tags = np.empty((rows, 256), np.uint16), np.empty(rows, np.uint8)
    price = tables.choose_kernel(counts, tables.COSTS, *_choice_scratch(), freqs, tags)
    return Tables(freqs, tags, _coded_bytes(int(price)))


def survey(symbols: Bytes, segment_log2: int = SEGMENT_LOG2) -> tuple[Tables, int]:
    """Returns the cheapest table for each segment of (n,) uint8, n >= 1, and the number of
    different symbols.
    """
    segment = 1 << segment_log2
    rows = -(-symbols.size // segment)
    parts = scratch("counts", 8 * 256, np.uint32).reshape(8, 256)
    counts = np.empty((rows, 256), np.uint32)
    freqs, tags = np.empty((rows, 256), np.uint16), np.empty(rows, np.uint8)
    price, distinct = tables.survey_kernel(
        symbols, segment, parts, counts, tables.COSTS, *_choice_scratch(), freqs, tags
    )
    return Tables(freqs, tags, _coded_bytes(int(price))), int(distinct)


def _choice_scratch() -> tuple[NDArray[np.uint16], NDArray[np.uint32], Bytes]:
    return (
        scratch("spare", 256, np.uint16),
        scratch("pooled", 256, np.uint32),
        scratch("packed", tables.MAX_TABLE_BYTES, np.uint8),
    )


def _coded_bytes(price: int) -> int:
    return LEAST_BYTES - (-int(price) // (8 * tables.ONE_BIT))


def encode_plane(
    symbols: Bytes, chosen: Tables, segment_log2: int = SEGMENT_LOG2
) -> list[bytes | memoryview]:
    """Codes (n,) uint8 with one table per segment; the parts are valid until the next plane is
    coded.
    """
    states, words = _start(symbols.size)
    starts, packed = scratch("starts", 256, np.uint32), _packed_scratch(chosen)
    end, at = kernels.encode_plane_kernel(
        path_number(),
        symbols,
        segment_log2,
        chosen.freqs,
        chosen.tags,
        starts,
        states,
        packed,
        words,
    )
    return [bytes([segment_log2]), *_finish(states, packed[:end], words[at:])]


def encode_contexts(symbols: Bytes, contexts: Bytes, chosen: Tables) -> list[bytes | memoryview]:
    """Codes (n,) uint8 with one table per context, (n,) uint8 below the number of tables.

    The parts are valid until the next plane is coded.
    """
    states, words = _start(symbols.size)
    starts, packed = np.empty(chosen.freqs.shape, np.uint32), _packed_scratch(chosen)
    end, at = kernels.encode_context_kernel(
        path_number(), symbols, contexts, chosen.freqs, chosen.tags, starts, states, packed, words
    )
    return _finish(states, packed[:end], words[at:])


def decode_plane(source: Bytes, out: Bytes) -> None:
    """Decodes ``source`` (read-only uint8) into every element of ``out`` (n,) uint8, n >= 1.

    Raises CorruptFrame when the source is not exactly what ``encode_plane`` writes for n symbols.
    """
    states = open_stream(source, 1)
    freqs, slots = scratch("freqs", 256, np.uint16), scratch("slots", tables.SLOTS, np.uint32)
    at = kernels.decode_plane_kernel(
        path_number(), source, 1 + STATES_BYTES, int(source[0]), freqs, slots, states, out
    )
    close_stream(source, at, states)


def decode_pair(source: Bytes, low: Bytes, out: NDArray[np.uint16]) -> None:
    """Decodes a plane of exponents and joins it with ``low`` (n,) uint8 into 16-bit floats
    ``out`` (n,) uint16.

    Raises CorruptFrame like ``decode_plane``.
    """
    states = open_stream(source, 1)
    freqs, slots = scratch("freqs", 256, np.uint16), scratch("slots", tables.SLOTS, np.uint32)
    at = kernels.decode_pair_kernel(
        path_number(), source, 1 + STATES_BYTES, int(source[0]), freqs, slots, states, low, out
    )
    close_stream(source, at, states)


def decode_two_pairs(streams: Sequence[tuple[Bytes, Bytes, NDArray[np.uint16]]]) -> None:
    """Like ``decode_pair`` for two streams side by side, each of source, low plane and elements.

    The second takes hardly more time than the first one alone: see ``vector_rans.emit_decode``.
    """
    states = np.stack([open_stream(source, 1) for source, _, _ in streams])
    (source, _, out), (source2, _, out2) = streams
    if out.size != out2.size or source[0] != source2[0]:
        for stream in streams:
            decode_pair(*stream)
        return
    freqs = scratch("freqs", 2 * 256, np.uint16).reshape(2, -1)
    slots = scratch("slots", 2 * tables.SLOTS, np.uint32).reshape(2, -1)
    ends = kernels.decode_two_pairs_kernel(
        path_number(), tuple(streams), int(source[0]), freqs, slots, states
    )
    for (one, _, _), at, own in zip(streams, ends, states, strict=True):
        close_stream(one, at, own)


def decode_contexts(source: Bytes, contexts: Bytes, rows: int, out: Bytes) -> None:
    """Decodes into ``out`` (n,) uint8 with one of ``rows`` tables for each symbol, ``contexts``
    (n,) uint8 below rows.

    Raises CorruptFrame like ``decode_plane``.
    """
    states = open_stream(source, 0)
    freqs = scratch("freqs", 256, np.uint16)
    slots = np.empty((rows, tables.SCALE), np.uint32)
    at = kernels.decode_context_kernel(
        path_number(), source, STATES_BYTES, contexts, freqs, slots, states, out
    )
    close_stream(source, at, states)


def _start(count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    states = np.full(LANES, LOWER_BOUND, np.uint32)
    return states, scratch("words", count + kernels.WRITE_SLACK, np.uint16)


def _packed_scratch(chosen: Tables) -> NDArray[np.uint8]:
    return scratch("tables", chosen.tags.size * tables.MAX_TABLE_BYTES, np.uint8)


def _finish(
    states: NDArray[np.uint32], packed: NDArray[np.uint8], words: NDArray[np.uint16]
) -> list[bytes | memoryview]:
    return [states.tobytes(), packed.tobytes(), words.view(np.uint8).data]


def open_stream(source: Bytes, head_bytes: int) -> NDArray[np.uint32]:
    """Returns the states, (64,) uint32, that a coded plane starts from.

    ``head_bytes``: what comes before them, 1 for ``segment_log2`` or 0. Raises CorruptFrame where
    they are not there, or are none that an encoder ends in.
    """
    if source.size < head_bytes + STATES_BYTES or (head_bytes and not 6 <= source[0] <= 31):
        raise CorruptFrame("an entropy-coded stream has no proper head")
    states = source[head_bytes : head_bytes + STATES_BYTES].copy().view(np.uint32)
    if int(states.min()) < LOWER_BOUND or int(states.max()) >= LOWER_BOUND << 16:
        raise CorruptFrame("an entropy-coded stream starts from an impossible state")
    return states


def close_stream(source: Bytes, at: int, states: NDArray[np.uint32]) -> None:
    """Raises CorruptFrame unless a decoder that stopped ``at`` has used all of ``source``, and
    ``states`` are those that encoders start from.
    """
    if at != source.size or bool((states != LOWER_BOUND).any()):
        raise CorruptFrame("an entropy-coded stream does not decode")

"""Whole coded planes: tables, then vector steps on the chosen path, then plain loops for the rest.

Shared arguments: ``path``: 0 portable, 1 AVX2, 2 AVX-512, all of the same bytes. ``states``:
(64,) uint32, updated; an encoder starts with all of them at 2^15. ``source``: uint8, a whole
stream; nothing outside it is read. Decoders return where they stopped: exactly ``source.size``
for a proper stream, -1 for a bad table, and more than ``source.size`` when words ran out.
"""

import numpy as np

from ..jit.cached import njit
from . import scalar
from . import steps as rans_steps
from .folded_tables import fold_slots_kernel, fold_starts_kernel
from .tables import (
    SCALE,
    index_starts_kernel,
    pack_tables_kernel,
    parse_table_kernel,
    spread_kernel,
)

WRITE_SLACK = 16
"""Words that must be free below the first one an encoder can write: vector stores clobber them."""


@njit(nogil=True, cache=True)
def encode_plane_kernel(path, symbols, segment_log2, freqs, tags, starts, states, packed, words):
    """Encodes ``symbols`` (n,) uint8 with a table per segment; returns where in ``packed`` the
    tables end, and where in ``words`` the words begin.

    ``freqs``, ``tags``: see ``tables.choose_kernel``. ``starts``: (256,) uint32, scratch.
    ``packed``: (segments * MAX_TABLE_BYTES,) uint8. ``words``: (n + WRITE_SLACK,) uint16.
    """
    packed_end = pack_tables_kernel(freqs, tags, packed)
    at = words.size
    for index in range(freqs.shape[0] - 1, -1, -1):
        index_starts_kernel(freqs[index], starts)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), symbols.size)
        steps = (stop - begin) // 64 if path > 0 else 0
        rest = begin + 64 * steps
        at = scalar.encode_plane_kernel(symbols, rest, stop, starts, states, words, at)
        if path == 2 and fold_starts_kernel(starts):
            at = rans_steps.encode_folded_avx512(
                symbols, begin, steps, starts, states, words, at, symbols
            )
        elif path == 2:
            at = rans_steps.encode_plane_avx512(
                symbols, begin, steps, starts, states, words, at, symbols
            )
        elif path == 1:
            at = rans_steps.encode_plane_avx2(
                symbols, begin, steps, starts, states, words, at, symbols
            )
    return packed_end, at


@njit(nogil=True, cache=True)
def encode_context_kernel(path, symbols, contexts, freqs, tags, starts, states, packed, words):
    """Like ``encode_plane_kernel``, with a table per context.

    ``contexts``: (n,) uint8 below ``freqs.shape[0]``. ``starts``: (contexts, 256) uint32, scratch.
    """
    packed_end = pack_tables_kernel(freqs, tags, packed)
    for context in range(freqs.shape[0]):
        index_starts_kernel(freqs[context], starts[context])
    steps = symbols.size // 64 if path > 0 else 0
    at = scalar.encode_context_kernel(
        symbols, contexts, 64 * steps, symbols.size, starts, states, words, words.size
    )
    if path == 2:
        at = rans_steps.encode_context_avx512(
            symbols, 0, steps, starts, states, words, at, contexts
        )
    elif path == 1:
        at = rans_steps.encode_context_avx2(symbols, 0, steps, starts, states, words, at, contexts)
    return packed_end, at


@njit(nogil=True, cache=True)
def _skip_tables(source, at, count, freqs):
    """Returns where ``count`` tables end, or -1 when one of them is bad or the first refers to
    none before it.
    """
    if at >= source.size or source[at] == 0:
        return -1
    for _ in range(count):
        at = parse_table_kernel(source, at, freqs)
        if at < 0:
            return -1
    return at


@njit(nogil=True, cache=True)
def _load_table(path, source, table, freqs, slots, was_folded):
    """Parses the table at ``table`` into ``freqs`` and ``slots``; returns where the next one is and
    whether it is folded.

    Of a folded table the plain one is left aside: it is for what the vector loops leave over.
    """
    is_new = source[table] != 0
    table = parse_table_kernel(source, table, freqs)
    if not is_new:
        return table, was_folded
    if path == 2 and fold_slots_kernel(freqs, slots[SCALE:].view(np.uint16)):
        return table, True
    spread_kernel(freqs, slots)
    return table, False


@njit(nogil=True, cache=True)
def decode_plane_kernel(path, source, at, segment_log2, freqs, slots, states, out):
    """Decodes ``out`` (n,) uint8 with a table per segment.

    ``at``: where the tables begin. ``freqs``: (256,) uint16 and ``slots``: (SLOTS,) uint32 are
    scratch.
    """
    segments = ((out.size - 1) >> segment_log2) + 1
    table = at
    at = _skip_tables(source, at, segments, freqs)
    if at < 0:
        return at
    is_folded = False
    for index in range(segments):
        table, is_folded = _load_table(path, source, table, freqs, slots, is_folded)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), out.size)
        steps = (stop - begin) // 64
        done = 0
        if is_folded:
            at, done = rans_steps.decode_plane_folded(
                source, at, slots[SCALE:], states, begin, steps, out, source
            )
        elif path == 2:
            at, done = rans_steps.decode_plane_avx512(
                source, at, slots, states, begin, steps, out, source
            )
        elif path == 1:
            at, done = rans_steps.decode_plane_avx2(
                source, at, slots, states, begin, steps, out, source
            )
        rest = begin + 64 * done
        if is_folded and rest < stop:
            spread_kernel(freqs, slots)
        at = scalar.decode_plane_kernel(source, at, slots, states, out, rest, stop)
    return at


@njit(nogil=True, cache=True)
def decode_pair_kernel(path, source, at, segment_log2, freqs, slots, states, low, out):
    """Like ``decode_plane_kernel``, joined with ``low`` (n,) uint8 into 16-bit floats ``out``
    (n,) uint16.
    """
    segments = ((out.size - 1) >> segment_log2) + 1
    table = at
    at = _skip_tables(source, at, segments, freqs)
    if at < 0:
        return at
    is_folded = False
    for index in range(segments):
        table, is_folded = _load_table(path, source, table, freqs, slots, is_folded)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), out.size)
        at = _decode_pair_part(
            path, source, at, freqs, slots, is_folded, states, low, out, begin, stop
        )
    return at


@njit(nogil=True, cache=True)
def _decode_pair_part(path, source, at, freqs, slots, is_folded, states, low, out, begin, stop):
    """Decodes ``out[begin:stop]``, of one segment, and returns where the next word is."""
    steps = (stop - begin) // 64
    done = 0
    if is_folded:
        at, done = rans_steps.decode_pair_folded(
            source, at, slots[SCALE:], states, begin, steps, out, low
        )
    elif path == 2:
        at, done = rans_steps.decode_pair_avx512(source, at, slots, states, begin, steps, out, low)
    elif path == 1:
        at, done = rans_steps.decode_pair_avx2(source, at, slots, states, begin, steps, out, low)
    rest = begin + 64 * done
    if is_folded and rest < stop:
        spread_kernel(freqs, slots)
    return scalar.decode_pair_kernel(source, at, slots, states, low, out, rest, stop)


@njit(nogil=True, cache=True)
def decode_two_pairs_kernel(path, streams, segment_log2, freqs, slots, states):
    """Like ``decode_pair_kernel`` for two streams of equal length side by side.

    ``streams``: for each of them source, low, and out. ``freqs``: (2, 256) uint16 and ``slots``:
    (2, SLOTS) uint32 are scratch. ``states``: (2, 64) uint32. Returns where both of them stopped.
    """
    (source, low, out), (source2, low2, out2) = streams
    segments = ((out.size - 1) >> segment_log2) + 1
    table = table2 = 1 + 4 * 64
    at = _skip_tables(source, table, segments, freqs[0])
    at2 = _skip_tables(source2, table2, segments, freqs[1])
    if at < 0 or at2 < 0:
        return -1, -1
    folded = folded2 = False
    for index in range(segments):
        table, folded = _load_table(path, source, table, freqs[0], slots[0], folded)
        table2, folded2 = _load_table(path, source2, table2, freqs[1], slots[1], folded2)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), out.size)
        if folded and folded2:
            at, at2, done = rans_steps.decode_two_pairs_folded(
                source,
                at,
                slots[0, SCALE:],
                states[0],
                low,
                out,
                source2,
                at2,
                slots[1, SCALE:],
                states[1],
                low2,
                out2,
                begin,
                (stop - begin) // 64,
            )
            begin += 64 * done
        at = _decode_pair_part(
            path, source, at, freqs[0], slots[0], folded, states[0], low, out, begin, stop
        )
        at2 = _decode_pair_part(
            path, source2, at2, freqs[1], slots[1], folded2, states[1], low2, out2, begin, stop
        )
    return at, at2


@njit(nogil=True, cache=True)
def decode_context_kernel(path, source, at, contexts, freqs, slots, states, out):
    """Decodes ``out`` (n,) uint8 with a table per context.

    ``at``: where the tables begin. ``contexts``: (n,) uint8 below ``slots.shape[0]``. ``freqs``:
    (256,) uint16 and ``slots``: (contexts, 4096) uint32 are scratch.
    """
    if at >= source.size or source[at] == 0:
        return -1
    for context in range(slots.shape[0]):
        at = parse_table_kernel(source, at, freqs)
        if at < 0:
            return at
        spread_kernel(freqs, slots[context])
    done = 0
    if path == 2:
        at, done = rans_steps.decode_context_avx512(
            source, at, slots, states, 0, out.size // 64, out, contexts
        )
    elif path == 1:
        at, done = rans_steps.decode_context_avx2(
            source, at, slots, states, 0, out.size // 64, out, contexts
        )
    return scalar.decode_context_kernel(
        source, at, slots, states, contexts, out, 64 * done, out.size
    )

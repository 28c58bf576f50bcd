"""Whole coded planes: tables, then vector steps on the chosen path, then plain loops for the rest.

Shared arguments: ``path``: 0 portable, 1 AVX2, 2 AVX-512, all of the same bytes. ``states``:
(64,) uint32, updated; an encoder starts with all of them at 2^15. ``source``: uint8, a whole
stream; nothing outside it is read. Decoders return where they stopped: exactly ``source.size``
for a proper stream, -1 for a bad table, and more than ``source.size`` when words ran out.
"""

from numba import njit

from . import rans_scalar, rans_steps
from .folded_tables import fold_slots_kernel, fold_starts_kernel
from .tables import SCALE, index_starts_kernel, parse_table_kernel, spread_kernel

WRITE_SLACK = 16
"""Words that must be free below the first one an encoder can write: vector stores clobber them."""


@njit(nogil=True, cache=True)
def encode_plane_kernel(path, symbols, segment_log2, freqs, starts, states, words):
    """Encodes ``symbols`` (n,) uint8 with a table per segment and returns where in ``words`` the
    words begin.

    ``freqs``: (segments, 256) uint16. ``starts``: (256,) uint32, scratch. ``words``: (n +
    WRITE_SLACK,) uint16.
    """
    at = words.size
    for index in range(freqs.shape[0] - 1, -1, -1):
        index_starts_kernel(freqs[index], starts)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), symbols.size)
        steps = (stop - begin) // 64 if path > 0 else 0
        rest = begin + 64 * steps
        at = rans_scalar.encode_plane_kernel(symbols, rest, stop, starts, states, words, at)
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
    return at


@njit(nogil=True, cache=True)
def encode_context_kernel(path, symbols, contexts, freqs, starts, states, words):
    """Encodes ``symbols`` (n,) uint8 with a table per context and returns where in ``words`` the
    words begin.

    ``contexts``: (n,) uint8 below ``freqs.shape[0]``. ``freqs``: (contexts, 256) uint16.
    ``starts``: (contexts, 256) uint32, scratch. ``words``: (n + WRITE_SLACK,) uint16.
    """
    for context in range(freqs.shape[0]):
        index_starts_kernel(freqs[context], starts[context])
    steps = symbols.size // 64 if path > 0 else 0
    at = rans_scalar.encode_context_kernel(
        symbols, contexts, 64 * steps, symbols.size, starts, states, words, words.size
    )
    if path == 2:
        at = rans_steps.encode_context_avx512(
            symbols, 0, steps, starts, states, words, at, contexts
        )
    elif path == 1:
        at = rans_steps.encode_context_avx2(symbols, 0, steps, starts, states, words, at, contexts)
    return at


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
def decode_plane_kernel(path, source, at, segment_log2, freqs, slots, states, out):
    """Decodes ``out`` (n,) uint8 with a table per segment.

    ``at``: where the tables begin. ``freqs``: (256,) uint16 and ``slots``: (4096,) uint32 are
    scratch.
    """
    segments = ((out.size - 1) >> segment_log2) + 1
    table = at
    at = _skip_tables(source, at, segments, freqs)
    if at < 0:
        return at
    folded = slots[SCALE:]
    can_fold = path == 2 and rans_steps.HAS_FOLDED_SLOTS
    is_folded = False
    for index in range(segments):
        is_new = source[table] != 0
        table = parse_table_kernel(source, table, freqs)
        if is_new:
            spread_kernel(freqs, slots)
            is_folded = can_fold and fold_slots_kernel(freqs, folded)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), out.size)
        steps = (stop - begin) // 64
        done = 0
        if is_folded:
            at, done = rans_steps.decode_plane_folded(
                source, at, folded, states, begin, steps, out, source
            )
        elif path == 2:
            at, done = rans_steps.decode_plane_avx512(
                source, at, slots, states, begin, steps, out, source
            )
        elif path == 1:
            at, done = rans_steps.decode_plane_avx2(
                source, at, slots, states, begin, steps, out, source
            )
        at = rans_scalar.decode_plane_kernel(
            source, at, slots, states, out, begin + 64 * done, stop
        )
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
    folded = slots[SCALE:]
    can_fold = path == 2 and rans_steps.HAS_FOLDED_SLOTS
    is_folded = False
    for index in range(segments):
        is_new = source[table] != 0
        table = parse_table_kernel(source, table, freqs)
        if is_new:
            spread_kernel(freqs, slots)
            is_folded = can_fold and fold_slots_kernel(freqs, folded)
        begin = index << segment_log2
        stop = min(begin + (1 << segment_log2), out.size)
        steps = (stop - begin) // 64
        done = 0
        if is_folded:
            at, done = rans_steps.decode_pair_folded(
                source, at, folded, states, begin, steps, out, low
            )
        elif path == 2:
            at, done = rans_steps.decode_pair_avx512(
                source, at, slots, states, begin, steps, out, low
            )
        elif path == 1:
            at, done = rans_steps.decode_pair_avx2(
                source, at, slots, states, begin, steps, out, low
            )
        at = rans_scalar.decode_pair_kernel(
            source, at, slots, states, low, out, begin + 64 * done, stop
        )
    return at


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
    return rans_scalar.decode_context_kernel(
        source, at, slots, states, contexts, out, 64 * done, out.size
    )

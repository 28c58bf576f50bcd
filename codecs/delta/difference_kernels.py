"""Turns pairs of elements into symbols and contexts, and back (FORMAT.md, "Differences").

The elements are 16-bit words. Shared arguments: ``base``, ``target``, ``out``: (n,) uint16.
``delta.scales``: (n,) uint8, see ``scales.Scales``. ``spec``: (9,) int32, at the places named
below. All arithmetic on words is modulo 2^16, so that any pair of words has symbols.
"""

import numpy as np

from ..jit.cached import njit
from ..rans.scalar import decode_context_kernel
from ..rans.tables import parse_table_kernel, spread_kernel
from . import difference_steps
from .scales import spread_part_kernel

SHIFT, MASK, ORIGIN, TOP, LOW_BITS, LOW_MASK, LIMIT, REACH, XORED = range(9)
"""Places in ``spec``. The first two find the exponent of the base, in steps of the scales. The
context is that plus ORIGIN minus the scale, held between 0 and TOP, followed by the LOW_BITS
lowest bits of the base (LOW_MASK masks them). Up to LIMIT a difference is a symbol of its own;
beyond, the symbol says by how much the upper byte differs, at most by REACH, and the lower byte
is stored."""
MOST_ORIGIN = 1 << 14
"""What the vector loops, which add it up in 16 bits, can take; no encoder needs a tenth of it."""
CHUNK = 1 << 14
"""Elements that are decoded at a time: their scales stay in the first level cache."""
LOWER_SLACK = 32
"""Lower bytes that ``restore_kernel`` may read, and leaves alone, beyond those there are."""
PICK_SLACK = 16
"""Words that ``pick_lower_kernel`` may clobber before those it keeps."""
FAR_CHUNK = 1 << 12
"""Elements of which it is counted together how many are out of reach."""


@njit(nogil=True, cache=True)
def contexts_kernel(base, scales, spec, out):
    """Writes the context of every element to ``out`` (n,) uint8."""
    shift, mask = np.int32(spec[0]), np.int32(spec[1])
    origin, top = np.int32(spec[2]), np.int32(spec[3])
    low_bits, low_mask = np.int32(spec[4]), np.int32(spec[5])
    for i in range(base.size):
        word = np.int32(base[i])
        context = ((word >> shift) & mask) + origin - np.int32(scales[i])
        context = min(max(context, np.int32(0)), top)
        out[i] = np.uint8((context << low_bits) | (word & low_mask))


@njit(nogil=True, cache=True)
def _classify(a, b, limit, reach, xored):
    """Returns symbol and stored byte of word ``b`` against base ``a``; -1 for one out of reach.

    The stored byte is -1 where there is none.
    """
    one = np.int32(1)
    ends = np.int32(65535)
    near = (a ^ b) if xored else ((b - a + limit) & ends)
    room = (np.int32(2) * reach + one) << np.int32(8)
    same = (b - (a & np.int32(0xFF00)) + (reach << np.int32(8))) & ends
    other = (same - np.int32(0x8080)) & ends
    flip = np.int32(0) if same < room else one
    left = same if same < room else other
    wide = np.int32(2) * (limit + (left >> np.int32(8))) + one + flip
    is_near = near <= np.int32(2) * limit
    symbol = near if is_near else (wide if left < room else np.int32(-1))
    return symbol, np.int32(-1) if is_near else left & np.int32(255)


@njit(nogil=True, cache=True)
def survey_kernel(
    path, target, base, rows, columns, length, phase, spec, room, symbols, contexts, far, counts
):
    """Writes symbol and context of every element and counts them together; returns how many store
    a byte.

    An element out of reach has the symbol of an unchanged one. ``path``: see ``rans_kernels``.
    ``rows``, ``columns``, ``length``, ``phase``: see ``scales.Scales``. ``room``: (3 * FAR_CHUNK,)
    uint8, scratch. ``symbols``, ``contexts``: (n,) uint8, written. ``far``: (chunks of FAR_CHUNK,)
    int32, how many elements are out of reach in each. ``counts``: (2, contexts, 256) uint32,
    zeroed: two tables to add up, because a counter that was just written is slow to read back,
    and most of the elements of a frozen tensor have the same symbol.
    """
    if abs(spec[ORIGIN]) > MOST_ORIGIN:
        path = 0
    plain = spec[LOW_BITS] == 0 and spec[XORED] == 0
    spread, places = room[:FAR_CHUNK], room[FAR_CHUNK:].view(np.uint16)
    some, others = counts[0].reshape(-1), counts[1].reshape(-1)
    stored = 0
    for chunk in range(far.size):
        begin = chunk * FAR_CHUNK
        stop = min(begin + FAR_CHUNK, target.size)
        spread_part_kernel(rows, columns, length, phase, begin, stop, spread)
        piece, against = target[begin:stop], base[begin:stop]
        own, beside = symbols[begin:stop], contexts[begin:stop]
        steps = piece.size // 32 if path > 0 else 0
        more, missed = 0, 0
        if path == 2 and plain:
            more, missed = difference_steps.classify_plain_avx512(
                piece, against, spread, spec, steps, own, beside, places
            )
        elif path == 2:
            more, missed = difference_steps.classify_avx512(
                piece, against, spread, spec, steps, own, beside, places
            )
        elif path == 1 and plain:
            more, missed = difference_steps.classify_plain_avx2(
                piece, against, spread, spec, steps, own, beside, places
            )
        elif path == 1:
            more, missed = difference_steps.classify_avx2(
                piece, against, spread, spec, steps, own, beside, places
            )
        rest = _classify_rest_kernel(piece, against, spread, spec, own, beside, places, 32 * steps)
        stored += more + rest[0]
        far[chunk] = missed + rest[1]
        for i in range(piece.size // 2):
            some[places[2 * i]] += np.uint32(1)
            others[places[2 * i + 1]] += np.uint32(1)
        if piece.size & 1:
            some[places[piece.size - 1]] += np.uint32(1)
    return stored


@njit(nogil=True, cache=True)
def _classify_rest_kernel(target, base, scales, spec, symbols, contexts, places, begin):
    """Does the elements from ``begin`` on in plain loops; returns how many store a byte and how
    many are out of reach.
    """
    contexts_kernel(base[begin:], scales[begin:], spec, contexts[begin:])
    limit, reach, xored = np.int32(spec[6]), np.int32(spec[7]), spec[8] != 0
    still = np.int32(0) if xored else limit
    wide = np.int32(0)
    missed = np.int32(0)
    for i in range(begin, target.size):
        symbol, byte = _classify(np.int32(base[i]), np.int32(target[i]), limit, reach, xored)
        is_far = symbol < np.int32(0)
        symbols[i] = np.uint8(still if is_far else symbol)
        places[i] = (np.uint16(contexts[i]) << np.uint16(8)) | np.uint16(symbols[i])
        missed += np.int32(1) if is_far else np.int32(0)
        wide += np.int32(1) if byte >= np.int32(0) else np.int32(0)
    return wide - missed, missed


@njit(nogil=True, cache=True)
def pick_lower_kernel(path, target, symbols, limit, out):
    """Writes the bytes that wide symbols leave to store, in order, to the lower halves of ``out``.

    ``path``: see ``rans_kernels``. ``out``: (stored + PICK_SLACK,) uint16, filled from its end.
    """
    first = np.int32(2 * limit + 1)
    at = out.size
    steps = symbols.size // 16 if path > 0 else 0
    for i in range(symbols.size - 1, 16 * steps - 1, -1):
        wide = np.int32(symbols[i]) - first
        if wide >= 0:
            at -= 1
            # 0x8080 times a wide symbol leaves half of its lowest bit in the lower byte.
            out[at] = np.uint16((np.int32(target[i]) - ((wide & 1) << 7)) & 0xFFFF)
    if path == 2:
        at = difference_steps.pick_avx512(target, symbols, first, steps, out, at)
    elif path == 1:
        at = difference_steps.pick_avx2(target, symbols, first, steps, out, at)


@njit(nogil=True, cache=True)
def find_far_kernel(target, base, spec, far, places):
    """Writes the indexes of the elements out of reach to ``places`` uint32; ``far``: as
    ``survey_kernel`` counted them.
    """
    limit, reach, xored = np.int32(spec[6]), np.int32(spec[7]), spec[8] != 0
    at = 0
    for chunk in range(far.size):
        if far[chunk] == 0:
            continue
        begin = chunk * FAR_CHUNK
        for i in range(begin, min(begin + FAR_CHUNK, target.size)):
            if _classify(np.int32(base[i]), np.int32(target[i]), limit, reach, xored)[0] < 0:
                places[at] = i
                at += 1


@njit(nogil=True, cache=True)
def count_kernel(symbols, contexts, counts, others):
    """Counts symbols by context: ``symbols``, ``contexts`` (n,) uint8; ``counts``, ``others``
    (contexts, 256) uint32, zeroed: see ``survey_kernel``.
    """
    for i in range(symbols.size // 2):
        counts[contexts[2 * i], symbols[2 * i]] += np.uint32(1)
        others[contexts[2 * i + 1], symbols[2 * i + 1]] += np.uint32(1)
    if symbols.size & 1:
        counts[contexts[-1], symbols[-1]] += np.uint32(1)
    for context in range(counts.shape[0]):
        for symbol in range(256):
            counts[context, symbol] += others[context, symbol]


@njit(nogil=True, cache=True)
def parse_slots_kernel(source, at, freqs, slots):
    """Parses a table for every row of ``slots`` (tables, 4096) uint32; returns where they end, or
    -1.
    """
    if at >= source.size or source[at] == 0:
        return -1
    for context in range(slots.shape[0]):
        is_new = at < source.size and source[at] != 0
        at = parse_table_kernel(source, at, freqs)
        if at < 0:
            return -1
        if is_new:
            spread_kernel(freqs, slots[context])
        else:
            own, other = slots[context], slots[context - 1]
            for slot in range(own.size):
                own[slot] = other[slot]
    return at


@njit(nogil=True, cache=True)
def restore_kernel(
    path, source, at, base, rows, columns, length, phase, room, spec, slots, states, lower, out
):
    """Decodes the symbols and the elements they stand for; returns where it stopped and how many
    lower bytes it took.

    ``path``, ``source``, ``states`` and the first result: see ``rans_kernels``; ``at``: where the
    words begin. ``rows``, ``columns``, ``length``, ``phase``: see ``scales.Scales``. ``room``: (3,
    CHUNK) uint8, scratch. ``slots``: (tables, 4096) uint32. ``lower``: (n + LOWER_SLACK,) uint8.
    """
    taken = 0
    if abs(spec[ORIGIN]) > MOST_ORIGIN:
        path = 0
    plain = spec[4] == 0 and spec[8] == 0
    spread, contexts, symbols = room[0], room[1], room[2]
    for begin in range(0, out.size, CHUNK):
        stop = min(begin + CHUNK, out.size)
        spread_part_kernel(rows, columns, length, phase, begin, stop, spread)
        some = base[begin:stop]
        piece = out[begin:stop]
        steps = (stop - begin) // 64
        done = 0
        used = 0
        if path == 2 and plain:
            at, done, used = difference_steps.restore_plain_avx512(
                source, at, slots, states, steps, some, spread, spec, lower, taken, piece
            )
        elif path == 2:
            at, done, used = difference_steps.restore_avx512(
                source, at, slots, states, steps, some, spread, spec, lower, taken, piece
            )
        elif path == 1 and plain:
            at, done, used = difference_steps.restore_plain_avx2(
                source, at, slots, states, steps, some, spread, spec, lower, taken, piece
            )
        elif path == 1:
            at, done, used = difference_steps.restore_avx2(
                source, at, slots, states, steps, some, spread, spec, lower, taken, piece
            )
        at, taken = _restore_rest_kernel(
            source,
            at,
            some,
            spread,
            spec,
            slots,
            states,
            lower,
            taken + used,
            piece,
            64 * done,
            contexts,
            symbols,
        )
    return at, taken


@njit(nogil=True, cache=True)
def _restore_rest_kernel(
    source, at, base, scales, spec, slots, states, lower, taken, out, begin, contexts, symbols
):
    """Decodes ``out[begin:]`` in three plain loops: contexts, symbols, elements."""
    rest, room = base[begin:], out[begin:]
    contexts_kernel(rest, scales[begin:], spec, contexts)
    at = decode_context_kernel(source, at, slots, states, contexts, symbols, 0, rest.size)
    limit, xored = np.int32(spec[6]), spec[8] != 0
    first = np.int32(2 * limit + 1)
    lowest = np.int32(-first * 0x8080 - (spec[7] << 8))
    for i in range(rest.size):
        a = np.int32(rest[i])
        symbol = np.int32(symbols[i])
        near = a ^ symbol if xored else a + symbol - limit
        turned = (a & np.int32(0xFF00)) + symbol * np.int32(0x8080) + lowest
        wide = turned + np.int32(lower[taken])
        room[i] = np.uint16((wide if symbol >= first else near) & np.int32(0xFFFF))
        taken += 1 if symbol >= first else 0
    return at, taken

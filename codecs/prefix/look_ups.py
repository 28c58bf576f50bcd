"""What coders of prefix codes look up (FORMAT.md, "Prefix codes").

``lengths``: (256,) uint8, a complete code. Bits are taken from the highest down, so the entries
that begin with one code lie side by side.
"""

import numpy as np

from ..jit.cached import njit

MOST_SYMBOLS = 6
"""Symbols that an entry of a plane holds at most."""


@njit(nogil=True, cache=True)
def index_codes_kernel(lengths, codes):
    """Writes ``code * 256 + length`` of every symbol to ``codes`` (256,) uint32."""
    code = np.uint32(0)
    before = np.uint32(0)
    for length in range(1, 16):
        for s in range(256):
            if lengths[s] == length:
                code <<= np.uint32(length) - before
                before = np.uint32(length)
                codes[s] = (code << np.uint32(8)) | np.uint32(length)
                code += np.uint32(1)


@njit(nogil=True, cache=True)
def fill_row_kernel(lengths, bits, entries):
    """Fills ``entries`` (2**bits,) uint16 of a row: a length and, above it, its symbol."""
    at = 0
    for length in range(1, bits + 1):
        for s in range(256):
            if lengths[s] == length:
                entry = np.uint16(length | (s << 8))
                for i in range(at, at + (1 << (bits - length))):
                    entries[i] = entry
                at += 1 << (bits - length)


@njit(nogil=True, cache=True)
def fill_plane_kernel(lengths, bits, entries):
    """Fills the last 2**bits of ``entries`` (2 << bits,) uint64 of a plane.

    An entry has up to six whole symbols, the first in the lowest byte, then how many bits they take
    in bits 48 to 53, and how many they are in bits 56 to 58. Tables for 0, 1, 2 and so on bits lie
    one behind the other, each made of the shorter ones: what follows a symbol of n bits is what the
    table for n bits fewer holds.
    """
    order = np.empty(256, np.uint8)
    used = 0
    for length in range(1, bits + 1):
        for s in range(256):
            if lengths[s] == length:
                order[used] = s
                used += 1
    entries[1] = 0
    for size in range(1, bits + 1):
        _fill_size_kernel(lengths, order[:used], size, entries)


@njit(nogil=True, cache=True)
def _fill_size_kernel(lengths, order, size, entries):
    """Fills the table for ``size`` bits, which begins at ``1 << size``."""
    at = 1 << size
    one = np.uint64(1) << np.uint64(56)
    for place in range(order.size):
        s = order[place]
        length = np.int64(lengths[s])
        if length > size:
            break
        count = 1 << (size - length)
        rest = entries[count : 2 * count]
        part = entries[at : at + count]
        added = np.uint64(s) + one + (np.uint64(length) << np.uint64(48))
        symbols = np.uint64((1 << 48) - 1)
        if size <= MOST_SYMBOLS or lengths[order[0]] > 1:
            for i in range(count):
                part[i] = (((rest[i] & symbols) << np.uint64(8)) | (rest[i] & ~symbols)) + added
        else:
            for i in range(count):
                entry = _drop_last(rest[i], lengths)
                part[i] = (((entry & symbols) << np.uint64(8)) | (entry & ~symbols)) + added
        at += count
    # No symbol is short enough for what is left.
    for i in range(at, 2 << size):
        entries[i] = 0


@njit(nogil=True, cache=True)
def _drop_last(entry, lengths):
    """Returns ``entry`` without its last symbol, where it has as many as there is room for."""
    if entry >> np.uint64(56) < np.uint64(MOST_SYMBOLS):
        return entry
    last = (entry >> np.uint64(40)) & np.uint64(255)
    taken = (np.uint64(1) << np.uint64(56)) | (np.uint64(lengths[last]) << np.uint64(48))
    return (entry & ~(np.uint64(255) << np.uint64(40))) - taken

"""The portable kernels of the entropy coder: plain loops that any machine compiles (FORMAT.md,
"rANS").

Symbol i belongs to lane i mod 64. The decoder walks forwards, all lanes take their words from one
shared stream in lane order; the encoder walks backwards and writes words downwards from the end
of its buffer. The vector kernels of the other paths give the same bytes and fall back on these
for what is left over.
"""

import numpy as np
from numba import njit

from .tables import parse_table_kernel, spread_kernel

LANES = 64
LOWER_BOUND = 1 << 15


@njit(nogil=True, cache=True)
def encode_kernel(symbols, begin, end, starts, states, words, at):
    """Encodes ``symbols[begin:end]`` backwards and returns where the written words begin.

    ``symbols``: uint8. ``begin``: a multiple of 64. ``starts``: (256,) uint32, entry = start <<
    12 | frequency. ``states``: (64,) uint32, updated. ``words``: uint16; ``words[at - (end -
    begin):at]`` must be free.
    """
    for i in range(end - 1, begin - 1, -1):
        lane = i & 63
        entry = starts[symbols[i]]
        f = entry & np.uint32(4095)
        x = states[lane]
        if x >= f << np.uint32(19):
            at -= 1
            words[at] = x & np.uint32(0xFFFF)
            x >>= np.uint32(16)
        q = x // f
        states[lane] = (q << np.uint32(12)) + (x - q * f) + (entry >> np.uint32(12))
    return at


@njit(nogil=True, cache=True)
def decode_kernel(source, at, end, slots, states, out, begin, stop):
    """Decodes ``out[begin:stop]`` and returns where in ``source`` it stopped reading, or -1 at a
    missing word.

    ``source``: uint8; words are read from ``source[at:end]`` only. ``slots``: (4096,) uint32 of
    ``spread_kernel``. ``states``: (64,) uint32, updated. ``out``: uint8. ``begin``: a multiple of
    64.
    """
    for i in range(begin, stop):
        lane = i & 63
        x = states[lane]
        entry = slots[x & np.uint32(4095)]
        x = (entry & np.uint32(4095)) * (x >> np.uint32(12)) + (
            (entry >> np.uint32(12)) & np.uint32(4095)
        )
        if x < np.uint32(LOWER_BOUND):
            if at + 2 > end:
                return -1
            x = (
                (x << np.uint32(16))
                | np.uint32(source[at])
                | (np.uint32(source[at + 1]) << np.uint32(8))
            )
            at += 2
        states[lane] = x
        out[i] = entry >> np.uint32(24)
    return at


@njit(nogil=True, cache=True)
def encode_segments_kernel(symbols, segment_log2, freqs, states, words):
    """Encodes all of ``symbols`` (n,) uint8 with one table per segment; returns where the words
    begin.

    ``freqs``: (segments, 256) uint16. ``states``: (64,) uint32 at the lower bound. ``words``:
    (n,) uint16.
    """
    segment = 1 << segment_log2
    starts = np.empty(256, np.uint32)
    at = symbols.size
    for index in range(freqs.shape[0] - 1, -1, -1):
        start = np.uint32(0)
        for s in range(256):
            starts[s] = (start << np.uint32(12)) | np.uint32(freqs[index, s])
            start += np.uint32(freqs[index, s])
        begin = index * segment
        end = min(begin + segment, symbols.size)
        at = encode_kernel(symbols, begin, end, starts, states, words, at)
    return at


@njit(nogil=True, cache=True)
def decode_segments_kernel(source, segment_log2, freqs, slots, states, out):
    """Decodes all of ``out`` (n,) uint8; returns where in ``source`` it stopped reading, or -1.

    ``source``: uint8, a whole stream. ``freqs``: (256,) uint16 and ``slots``: (4096,) uint32 are
    scratch. ``states``: (64,) uint32, updated. Reads nothing outside ``source``.
    """
    segment = 1 << segment_log2
    segments = (out.size + segment - 1) >> segment_log2
    at = 257
    table_at = 257
    for _ in range(segments):
        if at < source.size and source[at] == 0:
            at += 1
        else:
            at = parse_table_kernel(source, at, source.size, freqs)
        if at < 0 or source[257] == 0:
            return -1
    for index in range(segments):
        if index > 0 and source[table_at] == 0:
            table_at += 1
        else:
            table_at = parse_table_kernel(source, table_at, source.size, freqs)
            spread_kernel(freqs, slots)
        begin = index * segment
        stop = min(begin + segment, out.size)
        at = decode_kernel(source, at, source.size, slots, states, out, begin, stop)
        if at < 0:
            return -1
    return at

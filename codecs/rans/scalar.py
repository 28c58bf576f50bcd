"""The portable loops of the entropy coder, which any machine compiles (FORMAT.md, "rANS").

Symbol i belongs to lane i mod 64. The decoder walks forwards, all lanes take their words from one
shared stream in lane order; the encoder walks backwards and writes words downwards from the end
of its buffer. The vector loops give the same bytes and leave to these what does not fill a step.

Shared arguments: ``symbols``, ``out``: uint8 planes, of which ``[begin:stop]`` is coded;
``begin`` is a multiple of 64. ``states``: (64,) uint32, updated. ``contexts``: uint8, the row of
the table for each symbol.
"""

import numpy as np

from ..jit.cached import njit

LANES = 64
LOWER_BOUND = 1 << 15


# Functions that return two values at once cost these loops three quarters of their speed.


@njit(nogil=True, cache=True)
def _push(x, entry):
    """Returns the state after coding the symbol of ``entry``, for a state that has room."""
    f = entry & np.uint32(4095)
    q = x // f
    return (q << np.uint32(12)) + (x - q * f) + (entry >> np.uint32(12))


@njit(nogil=True, cache=True)
def _pull(x, entry):
    """Returns the state after decoding the symbol of ``entry``, before it is filled up again."""
    low = np.uint32(4095)
    return (entry & low) * (x >> np.uint32(12)) + ((entry >> np.uint32(12)) & low)


@njit(nogil=True, cache=True)
def _peek(source, at):
    """Returns the word at ``at``, or the last one beyond the end of ``source``."""
    place = max(0, min(at, source.size - 2))
    return np.uint32(source[place]) | (np.uint32(source[place + 1]) << np.uint32(8))


@njit(nogil=True, cache=True)
def encode_plane_kernel(symbols, begin, stop, starts, states, words, at):
    """Encodes backwards and returns where the words begin.

    ``starts``: (256,) uint32, see ``tables.index_starts_kernel``. ``words``: uint16, of which
    ``words[at - (stop - begin) - 1:at]`` is free.
    """
    for i in range(stop - 1, begin - 1, -1):
        entry = starts[symbols[i]]
        x = states[i & 63]
        is_full = x >= (entry & np.uint32(4095)) << np.uint32(19)
        words[at - 1] = x & np.uint32(0xFFFF)
        at -= 1 if is_full else 0
        states[i & 63] = _push(x >> np.uint32(16) if is_full else x, entry)
    return at


@njit(nogil=True, cache=True)
def encode_context_kernel(symbols, contexts, begin, stop, starts, states, words, at):
    """Like ``encode_plane_kernel``, with ``starts`` of (contexts, 256)."""
    for i in range(stop - 1, begin - 1, -1):
        entry = starts[contexts[i], symbols[i]]
        x = states[i & 63]
        is_full = x >= (entry & np.uint32(4095)) << np.uint32(19)
        words[at - 1] = x & np.uint32(0xFFFF)
        at -= 1 if is_full else 0
        states[i & 63] = _push(x >> np.uint32(16) if is_full else x, entry)
    return at


@njit(nogil=True, cache=True)
def decode_plane_kernel(source, at, slots, states, out, begin, stop):
    """Decodes and returns where in ``source`` (uint8) the next word is; beyond its end when words
    ran out.

    ``slots``: (4096,) uint32, see ``tables.spread_kernel``. Reads nothing outside ``source``.
    """
    for i in range(begin, stop):
        entry = slots[states[i & 63] & np.uint32(4095)]
        x = _pull(states[i & 63], entry)
        is_low = x < np.uint32(LOWER_BOUND)
        word = _peek(source, at)
        states[i & 63] = (x << np.uint32(16)) | word if is_low else x
        at += 2 if is_low else 0
        out[i] = entry >> np.uint32(24)
    return at


@njit(nogil=True, cache=True)
def decode_context_kernel(source, at, slots, states, contexts, out, begin, stop):
    """Like ``decode_plane_kernel``, with ``slots`` of (contexts, 4096)."""
    for i in range(begin, stop):
        entry = slots[contexts[i], states[i & 63] & np.uint32(4095)]
        x = _pull(states[i & 63], entry)
        is_low = x < np.uint32(LOWER_BOUND)
        word = _peek(source, at)
        states[i & 63] = (x << np.uint32(16)) | word if is_low else x
        at += 2 if is_low else 0
        out[i] = entry >> np.uint32(24)
    return at


@njit(nogil=True, cache=True)
def decode_pair_kernel(source, at, slots, states, low, out, begin, stop):
    """Like ``decode_plane_kernel``, joined with the plane ``low`` (uint8) into 16-bit floats
    ``out`` (uint16).
    """
    for i in range(begin, stop):
        entry = slots[states[i & 63] & np.uint32(4095)]
        x = _pull(states[i & 63], entry)
        is_low = x < np.uint32(LOWER_BOUND)
        word = _peek(source, at)
        states[i & 63] = (x << np.uint32(16)) | word if is_low else x
        at += 2 if is_low else 0
        sign = (np.uint32(low[i]) & np.uint32(0x80)) << np.uint32(8)
        exponent = (entry >> np.uint32(17)) & np.uint32(0x7F80)
        out[i] = sign | exponent | (np.uint32(low[i]) & np.uint32(0x7F))
    return at

"""Quantises to blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

Each kernel takes ``source``: (n, 32) float32, ``blocks``: (n, block bytes) uint8, written but for
what ``known`` says is there already. Source: quantize_row_q4_0_ref and its neighbours in
ggml-quants.c of the ggml project.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import reciprocal, round_away, settle_factor, truncate

_RUN = 32
_LARGEST = np.finfo(np.float32).max


@njit(nogil=True, cache=True, error_model="numpy")
def _find_peak(values):
    """Returns the first element of the largest magnitude, 0 if none is above 0."""
    largest, peak = np.float32(0), np.float32(0)
    for i in range(values.size):
        if largest < abs(values[i]):
            largest, peak = abs(values[i]), values[i]
    return peak


@njit(nogil=True, cache=True, error_model="numpy")
def _find_range(values):
    """Returns the least and the largest element; NaN is neither."""
    least, largest = _LARGEST, -_LARGEST
    for i in range(values.size):
        if values[i] < least:
            least = values[i]
        if values[i] > largest:
            largest = values[i]
    return least, largest


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_nibbles(quants, block, start):
    """Puts the low four bits of 32 quants at byte ``start``, quants 0 to 15 in the low halves."""
    for i in range(_RUN // 2):
        block[start + i] = (quants[i] & 15) | ((quants[i + _RUN // 2] & 15) << 4)


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_fifth_bits(quants, block, start):
    """Puts the fifth bits of 32 quants at byte ``start``, as a little-endian word."""
    for byte in range(4):
        bits = 0
        for i in range(8):
            bits |= ((quants[8 * byte + i] >> 4) & 1) << i
        block[start + byte] = bits


@njit(nogil=True, cache=True, error_model="numpy")
def _quantise_symmetric(values, block, high, known, quants):
    """Finds quants around (high + 1) / 2; the peak becomes 0."""
    middle = np.float32((high + 1) // 2)
    inverse = reciprocal(settle_factor(block, 0, _find_peak(values) / -middle, known))
    for i in range(_RUN):
        quants[i] = truncate(values[i] * inverse + (middle + np.float32(0.5)), high)


@njit(nogil=True, cache=True, error_model="numpy")
def _quantise_affine(values, block, high, known, quants):
    """Finds quants from the least element up."""
    least, largest = _find_range(values)
    scale = settle_factor(block, 0, (largest - least) / np.float32(high), known)
    inverse = reciprocal(scale)
    least = settle_factor(block, 2, least, known)
    for i in range(_RUN):
        quants[i] = truncate((values[i] - least) * inverse + np.float32(0.5), high)


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_q4_0_kernel(source, blocks, known):
    """Quantises to Q4_0: F16 d, 16 bytes of quants."""
    quants = np.empty(_RUN, np.uint8)
    for n in range(source.shape[0]):
        _quantise_symmetric(source[n], blocks[n], 15, known, quants)
        _pack_nibbles(quants, blocks[n], 2)


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_q4_1_kernel(source, blocks, known):
    """Quantises to Q4_1: F16 d and m, 16 bytes of quants."""
    quants = np.empty(_RUN, np.uint8)
    for n in range(source.shape[0]):
        _quantise_affine(source[n], blocks[n], 15, known, quants)
        _pack_nibbles(quants, blocks[n], 4)


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_q5_0_kernel(source, blocks, known):
    """Quantises to Q5_0: F16 d, 4 bytes of fifth bits, 16 bytes of quants."""
    quants = np.empty(_RUN, np.uint8)
    for n in range(source.shape[0]):
        _quantise_symmetric(source[n], blocks[n], 31, known, quants)
        _pack_fifth_bits(quants, blocks[n], 2)
        _pack_nibbles(quants, blocks[n], 6)


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_q5_1_kernel(source, blocks, known):
    """Quantises to Q5_1: F16 d and m, 4 bytes of fifth bits, 16 bytes of quants."""
    quants = np.empty(_RUN, np.uint8)
    for n in range(source.shape[0]):
        _quantise_affine(source[n], blocks[n], 31, known, quants)
        _pack_fifth_bits(quants, blocks[n], 4)
        _pack_nibbles(quants, blocks[n], 8)


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_q8_0_kernel(source, blocks, known):
    """Quantises to Q8_0: F16 d, 32 signed bytes."""
    for n in range(source.shape[0]):
        values, block = source[n], blocks[n]
        largest = np.float32(0)
        for i in range(_RUN):
            magnitude = abs(values[i])
            largest = largest if largest > magnitude else magnitude
        inverse = reciprocal(settle_factor(block, 0, largest / np.float32(127), known))
        for i in range(_RUN):
            block[2 + i] = round_away(values[i] * inverse) & 0xFF

"""Writes blocks of 256 whose runs have a scale and a minimum: Q2_K, Q4_K, Q5_K.

Each kernel takes ``source``: (n, runs, elements) float32; ``scales``, ``minima``: (n, runs) of
`searches.fit_line`, not looked at where ``known`` is SCALES; ``blocks``: (n, block bytes) uint8,
written but for what ``known`` says is there already; ``found``: the quants of a search, (n, runs,
elements) uint8, for runs whose scale is 0; ``flat``: (n, runs) uint8, written: which these are.
Without ``flat`` (n = 0) no quants are written, without ``found`` they are 0. So the search is not
part of these kernels, which would take seconds to compile. Source: quantize_row_q2_K_ref and its
neighbours in ggml-quants.c of the ggml project.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import (
    NOTHING,
    SCALES,
    read_half,
    reciprocal,
    round_even,
    round_within,
    same_half,
    to_half,
    write_half,
)
from .searches import fit_line

_ZERO = np.float32(0)
_MINUS_ONE, _MINUS_HALF = np.float32(-1), np.float32(-0.5)


@njit(nogil=True, cache=True, error_model="numpy")
def weigh(values, is_absolute, weights):
    """Writes the weights of a run: the magnitudes, on top of their quadratic mean unless errors
    are absolute.

    ``values``, ``weights``: (n,) float32.
    """
    mean = _ZERO
    if not is_absolute:
        for i in range(values.size):
            mean += values[i] * values[i]
        mean = np.sqrt(mean / np.float32(values.size))
    for i in range(values.size):
        weights[i] = mean + abs(values[i])


@njit(nogil=True, cache=True, error_model="numpy")
def fit_run(values, high, weights, quants):
    """Returns the scale and minus the minimum of a run whose quants go from 0 to ``high``, which is
    3 for Q2_K, 15 for Q4_K, 31 for Q5_K.

    ``values``, ``weights``: (n,) float32, ``quants``: (n,) uint8, the last two written.
    """
    weigh(values, high == 3, weights)
    if high == 15:
        return fit_line(values, weights, high, _MINUS_ONE, 20, False, quants)
    return fit_line(values, weights, high, _MINUS_HALF, 15, high == 3, quants)


@njit(nogil=True, cache=True, error_model="numpy")
def search_runs_kernel(source, high, scales, minima):
    """Finds the scales and minima of runs one by one.

    ``source``: (m, elements) float32. ``scales``, ``minima``: (m,) float32, written.
    """
    weights = np.empty(source.shape[1], np.float32)
    quants = np.empty(source.shape[1], np.uint8)
    for run in range(source.shape[0]):
        scales[run], minima[run] = fit_run(source[run], high, weights, quants)


@njit(nogil=True, cache=True, error_model="numpy")
def search_quants_kernel(source, high, quants):
    """Finds the quants of runs one by one. ``source``: (m, elements) float32. ``quants``: (m,
    elements) uint8, written.
    """
    weights = np.empty(source.shape[1], np.float32)
    for run in range(source.shape[0]):
        fit_run(source[run], high, weights, quants[run])


@njit(nogil=True, cache=True, error_model="numpy")
def _settle_scales(found, high, block, at, known, codes):
    """Writes the codes of the scales ``found`` to ``codes``, and their factor to byte ``at``."""
    largest = _ZERO
    for run in range(found.size):
        largest = found[run] if found[run] > largest else largest
    factor = to_half(largest / np.float32(high))
    if known == NOTHING:
        write_half(block, at, factor)
    if same_half(block, at, factor):
        inverse = np.float32(high) / largest if largest > _ZERO else _ZERO
    else:
        inverse = reciprocal(read_half(block, at))
    for run in range(found.size):
        codes[run] = round_even(inverse * found[run]) & 0xFF


@njit(nogil=True, cache=True, error_model="numpy")
def _settle_both(scales, minima, high, block, at, known, codes):
    """Settles scales and minima, which have their codes in a pair and their factors at ``at`` and
    after it."""
    found = scales, minima
    # In a loop, as a function is compiled for each constant that is passed to it.
    for part in range(2):
        _settle_scales(found[part], high, block, at + 2 * part, known, codes[part])


@njit(nogil=True, cache=True, error_model="numpy")
def _take_quants(values, size, factors, codes, lows, high, found, flat, quants):
    """Finds the quants of all runs of ``size`` of a block; those of the search where the scale is
    0. A constant ``size`` is compiled in, which serves runs of 32, and not those of 16.

    ``values``, ``quants``: (runs, size) float32 and uint8. ``factors``: those of the scales and
    of the minima. ``codes``, ``lows``: (runs,) uint8 each. ``found``: (1 or 0, runs, elements)
    uint8, ``flat``: (runs,) uint8, written.
    """
    for run in range(256 // size):
        scale = factors[0] * np.float32(codes[run])
        minimum = factors[1] * np.float32(lows[run])
        flat[run] = scale == _ZERO
        for i in range(size):
            quants[run, i] = round_within((values[run, i] + minimum) / scale, 0, high)
        if flat[run]:
            for i in range(size):
                quants[run, i] = found[0, run, i] if found.shape[0] else 0


@njit(nogil=True, cache=True, error_model="numpy")
def write_q2_k_kernel(source, scales, minima, blocks, known, found, flat):
    """Writes Q2_K: 16 bytes of a scale below a minimum, 64 bytes of quants, F16 d and dmin."""
    codes, lows = np.zeros(16, np.uint8), np.zeros(16, np.uint8)
    quants = np.empty((16, 16), np.uint8)
    for n in range(source.shape[0]):
        block = blocks[n]
        if known != SCALES:
            _settle_both(scales[n], minima[n], 15, block, 80, known, (codes, lows))
            for run in range(16):
                block[run] = codes[run] | ((lows[run] << 4) & 0xFF)
        if not flat.shape[0]:
            continue
        for run in range(16):
            codes[run], lows[run] = block[run] & 15, block[run] >> 4
        factors = read_half(block, 80), read_half(block, 82)
        size = source.shape[2]
        _take_quants(source[n], size, factors, codes, lows, 3, found[n : n + 1], flat[n], quants)
        pack_pairs(quants.reshape(-1), block, 16)


@njit(nogil=True, cache=True, error_model="numpy")
def pack_pairs(quants, block, start):
    """Packs the low two bits of 256 quants into 64 bytes: in each byte one of every 32."""
    for half in range(2):
        for i in range(32):
            at = 128 * half + i
            bits = quants[at] & 3 | (quants[at + 32] & 3) << 2
            bits |= (quants[at + 64] & 3) << 4 | (quants[at + 96] & 3) << 6
            block[start + 32 * half + i] = bits


@njit(nogil=True, cache=True, error_model="numpy")
def _write_six_bit_scales(codes, lows, block):
    """Packs eight scales and eight minima of six bits into the bytes 4 to 15."""
    for run in range(8):
        codes[run], lows[run] = min(codes[run], 63), min(lows[run], 63)
    for run in range(4):
        block[4 + run] = codes[run] | ((codes[run + 4] >> 4) << 6)
        block[8 + run] = lows[run] | ((lows[run + 4] >> 4) << 6)
        block[12 + run] = (codes[run + 4] & 15) | ((lows[run + 4] & 15) << 4)


@njit(nogil=True, cache=True, error_model="numpy")
def read_six_bit_scales(block, codes, lows):
    """Unpacks what `_write_six_bit_scales` packed: (8,) uint8 each."""
    for run in range(4):
        codes[run], lows[run] = block[4 + run] & 63, block[8 + run] & 63
        codes[run + 4] = (block[12 + run] & 15) | ((block[4 + run] >> 6) << 4)
        lows[run + 4] = (block[12 + run] >> 4) | ((block[8 + run] >> 6) << 4)


@njit(nogil=True, cache=True, error_model="numpy")
def _settle_long_runs(scales, minima, block, known, codes, lows):
    """Settles the scales of a block of Q4_K or Q5_K."""
    if known != SCALES:
        _settle_both(scales, minima, 63, block, 0, known, (codes, lows))
        _write_six_bit_scales(codes, lows, block)


@njit(nogil=True, cache=True, error_model="numpy")
def _make_room():
    return np.zeros(8, np.uint8), np.zeros(8, np.uint8), np.empty((8, 32), np.uint8)


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_halves(quants, block, start):
    """Packs the low four bits of 256 quants into 128 bytes: in each byte one of every 32."""
    for pair in range(4):
        for i in range(32):
            low, high = quants[64 * pair + i], quants[64 * pair + 32 + i]
            block[start + 32 * pair + i] = (low & 15) | ((high & 15) << 4)


@njit(nogil=True, cache=True, error_model="numpy")
def write_q4_k_kernel(source, scales, minima, blocks, known, found, flat):
    """Writes Q4_K: F16 d and dmin, 12 bytes of scales and minima, 128 bytes of quants."""
    codes, lows, quants = _make_room()
    for n in range(source.shape[0]):
        block = blocks[n]
        _settle_long_runs(scales[n], minima[n], block, known, codes, lows)
        if not flat.shape[0]:
            continue
        read_six_bit_scales(block, codes, lows)
        factors = read_half(block, 0), read_half(block, 2)
        _take_quants(source[n], 32, factors, codes, lows, 15, found[n : n + 1], flat[n], quants)
        _pack_halves(quants.reshape(-1), block, 16)


@njit(nogil=True, cache=True, error_model="numpy")
def write_q5_k_kernel(source, scales, minima, blocks, known, found, flat):
    """Writes Q5_K: as Q4_K, with 32 bytes of fifth bits before the quants."""
    codes, lows, room = _make_room()
    for n in range(source.shape[0]):
        block, quants = blocks[n], room.reshape(-1)
        _settle_long_runs(scales[n], minima[n], block, known, codes, lows)
        if not flat.shape[0]:
            continue
        read_six_bit_scales(block, codes, lows)
        factors = read_half(block, 0), read_half(block, 2)
        _take_quants(source[n], 32, factors, codes, lows, 31, found[n : n + 1], flat[n], room)
        for i in range(32):
            bits = 0
            for run in range(8):
                bits |= (quants[32 * run + i] >> 4) << run
            block[16 + i] = bits
        _pack_halves(quants, block, 48)

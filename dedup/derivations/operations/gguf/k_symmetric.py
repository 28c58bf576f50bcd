"""Writes blocks of 256 whose runs of 16 have a scale alone: Q3_K, Q6_K.

Each kernel takes ``source``: (n, 16, 16) float32; ``scales``: (n, 16) float32 of the search, not
looked at where ``known`` is SCALES; ``blocks``, ``found``, ``flat`` as those of `k_minima`. Source:
quantize_row_q3_K_ref and quantize_row_q6_K_ref in ggml-quants.c of the ggml project.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import (
    NOTHING,
    SCALES,
    TINY,
    read_half,
    reciprocal,
    round_even,
    round_within,
    same_half,
    to_half,
    write_half,
)
from .k_minima import pack_pairs
from .searches import fit_scale, refine_scale

_ZERO = np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def fit_symmetric(values, middle, quants):
    """Returns the scale of a run of 16: 4 as ``middle`` for Q3_K, 32 for Q6_K."""
    if middle == 4:
        return refine_scale(values, middle, quants)
    return fit_scale(values, middle, quants)


@njit(nogil=True, cache=True, error_model="numpy")
def search_symmetric_kernel(source, middle, scales):
    """Finds the scales of runs one by one. ``source``: (m, 16) float32, ``scales``: (m,) float32,
    written.
    """
    quants = np.empty(source.shape[1], np.uint8)
    for run in range(source.shape[0]):
        scales[run] = fit_symmetric(source[run], middle, quants)


@njit(nogil=True, cache=True, error_model="numpy")
def search_symmetric_quants_kernel(source, middle, quants):
    """Finds the quants of runs one by one. ``source``: (m, 16) float32, ``quants``: (m, 16) uint8,
    written.
    """
    for run in range(source.shape[0]):
        fit_symmetric(source[run], middle, quants[run])


@njit(nogil=True, cache=True, error_model="numpy")
def find_peak_scale(scales):
    """Returns the first scale of the largest magnitude, and 0 if none is above 0."""
    largest, peak = _ZERO, _ZERO
    for run in range(scales.size):
        if abs(scales[run]) > largest:
            largest, peak = abs(scales[run]), scales[run]
    return peak


@njit(nogil=True, cache=True, error_model="numpy")
def _take_quants(values, factor, codes, middle, found, flat, quants):
    """Finds the quants of all runs of a block; those of the search where the scale is 0.

    ``values``, ``quants``: (16, 16) float32 and uint8. ``codes``: (16,) int32. ``found``: (1 or 0,
    16, 16) uint8, ``flat``: (16,) uint8, written.
    """
    for run in range(16):
        scale = factor * np.float32(codes[run])
        flat[run] = scale == _ZERO
        # Not 16, a constant: the loop would be unrolled instead of made vectors of.
        for i in range(values.shape[1]):
            quants[run, i] = round_within(values[run, i] / scale, -middle, middle - 1) + middle
        if flat[run]:
            for i in range(16):
                quants[run, i] = found[0, run, i] if found.shape[0] else 0


@njit(nogil=True, cache=True, error_model="numpy")
def _settle_scales(found, codes_each_way, block, at, known, codes):
    """Writes the signed codes of the scales to ``codes``, (16,) int32, and their factor to byte
    ``at``: the peak gets the lowest code, -``codes_each_way``. Returns whether all are 0."""
    peak = find_peak_scale(found)
    inverse = np.float32(-codes_each_way) / peak if peak != _ZERO else _ZERO
    factor = to_half(reciprocal(inverse))
    if known == NOTHING:
        write_half(block, at, factor)
    if not same_half(block, at, factor):
        inverse = reciprocal(read_half(block, at))
    for run in range(16):
        codes[run] = min(codes_each_way - 1, round_even(inverse * found[run]))
    return inverse == _ZERO


@njit(nogil=True, cache=True, error_model="numpy")
def _write_q3_scales(codes, is_empty, block):
    """Packs 16 scales of six bits into the bytes 96 to 107: low halves, then the high pairs."""
    for i in range(12):
        block[96 + i] = 0
    for run in range(0 if is_empty else 16):
        code = max(-32, codes[run]) + 32
        block[96 + run % 8] |= (code & 15) << (4 * (run // 8))
        block[104 + run % 4] |= (code >> 4) << (2 * (run // 4))


@njit(nogil=True, cache=True, error_model="numpy")
def read_q3_scale(block, run):
    """Returns one of the scales that `_write_q3_scales` packed, -32 to 31."""
    low = (block[96 + run % 8] >> (4 * (run // 8))) & 15
    high = (block[104 + run % 4] >> (2 * (run // 4))) & 3
    return int(low | (high << 4)) - 32


@njit(nogil=True, cache=True, error_model="numpy")
def write_q3_k_kernel(source, scales, blocks, known, found, flat):
    """Writes Q3_K: 32 bytes of third bits, 64 bytes of quants, 12 of scales, F16 d."""
    codes, room = np.empty(16, np.int32), np.empty((16, 16), np.uint8)
    for n in range(source.shape[0]):
        block, quants = blocks[n], room.reshape(-1)
        if known != SCALES:
            is_empty = _settle_scales(scales[n], 32, block, 108, known, codes)
            _write_q3_scales(codes, is_empty, block)
        if not flat.shape[0]:
            continue
        for run in range(16):
            codes[run] = read_q3_scale(block, run)
        factor = read_half(block, 108)
        _take_quants(source[n], factor, codes, 4, found[n : n + 1], flat[n], room)
        pack_pairs(quants, block, 32)
        for i in range(32):
            bits = 0
            for run in range(8):
                bits |= (quants[32 * run + i] >> 2) << run
            block[i] = bits


@njit(nogil=True, cache=True, error_model="numpy")
def write_q6_k_kernel(source, scales, blocks, known, found, flat):
    """Writes Q6_K: 128 bytes of low halves, 64 of high pairs, 16 signed scales, F16 d."""
    codes, room = np.empty(16, np.int32), np.empty((16, 16), np.uint8)
    for n in range(source.shape[0]):
        block = blocks[n]
        if known == NOTHING and abs(find_peak_scale(scales[n])) < TINY:
            block[:] = 0
            continue
        if known != SCALES:
            _settle_scales(scales[n], 128, block, 208, known, codes)
            for run in range(16):
                block[192 + run] = codes[run] & 0xFF
        if not flat.shape[0]:
            continue
        for run in range(16):
            code = int(block[192 + run])
            codes[run] = code - 256 if code > 127 else code
        factor = read_half(block, 208)
        _take_quants(source[n], factor, codes, 32, found[n : n + 1], flat[n], room)
        _pack_q6(room.reshape(-1), block)


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_q6(quants, block):
    for half in range(2):
        for i in range(32):
            at, low = 128 * half + i, 64 * half + i
            one, two, three, four = quants[at], quants[at + 32], quants[at + 64], quants[at + 96]
            block[low] = (one & 15) | ((three & 15) << 4)
            block[low + 32] = (two & 15) | ((four & 15) << 4)
            high = (one >> 4) | ((two >> 4) << 2) | ((three >> 4) << 4) | ((four >> 4) << 6)
            block[128 + 32 * half + i] = high

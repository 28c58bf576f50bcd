"""Quantises to IQ4_NL and IQ4_XS: the quants stand for 16 values that are not evenly spaced.

Source: quantize_row_iq4_nl_impl in ggml-quants.c, kvalues_iq4nl in ggml-common.h, of the ggml
project. Kernels take arguments as those of `simple` do.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import SCALES, reciprocal, round_within, settle_factor
from .k_symmetric import find_peak_scale
from .searches import find_peak

VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
"""What the quants stand for, times the scale."""
BOUNDS = VALUES[:-1] + VALUES[1:]
"""Twice the values that lie in the middle of two of them."""
QUANTS = np.searchsorted(BOUNDS, np.arange(-256, 256), side="right").astype(np.uint8)
"""By twice a value without its fraction, plus 256: the nearest quant."""
_LAST = np.float32(255)
_LOWEST = np.float32(-127)
_RUN = 32
TRIES = 7
_ZERO = np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def find_nearest(value):
    """Returns the quant whose value is nearest, the higher one of two; 0 for NaN."""
    double = value + value
    double = double if double > -_LAST else -_LAST
    double = double if double < _LAST else _LAST
    whole = np.int32(double)
    # Without its fraction, downwards: all bounds are whole.
    whole -= np.int32(double < np.float32(whole))
    return QUANTS[whole + 256]


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_products(values, inverse):
    sum_xq = sum_q2 = _ZERO
    for i in range(values.size):
        quant = VALUES[find_nearest(inverse * values[i])]
        product = values[i] * values[i] * quant
        sum_xq += product * values[i]
        sum_q2 += product * quant
    return sum_xq, sum_q2


@njit(nogil=True, cache=True, error_model="numpy")
def fit_values(values):
    """Returns the scale of a run, (n,) float32: the best of one that gives the peak the quant 0,
    with its sign turned, and 15 that give it about that quant, each followed by the scale that
    suits the quants it gives best by least squares, with the squares of the values as weights."""
    peak = find_peak(values)
    if peak == _ZERO:
        return _ZERO
    sum_xq, sum_q2 = _sum_products(values, np.float32(1) / (-peak / _LOWEST))
    scale = sum_xq / sum_q2 if sum_q2 > _ZERO else _ZERO
    best = scale * sum_xq
    for step in range(-TRIES, TRIES + 1):
        sum_xq, sum_q2 = _sum_products(values, np.float32(step - 127) / peak)
        if sum_q2 > _ZERO and sum_xq * sum_xq > best * sum_q2:
            scale = sum_xq / sum_q2
            best = scale * sum_xq
    return scale


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_run(values, inverse, block, start):
    for i in range(_RUN // 2):
        low = find_nearest(inverse * values[i])
        high = find_nearest(inverse * values[i + _RUN // 2])
        block[start + i] = low | (high << 4)


@njit(nogil=True, cache=True, error_model="numpy")
def search_values_kernel(source, scales):
    """Finds the scales of runs one by one. ``source``: (m, 32) float32, ``scales``: (m,) float32,
    written.
    """
    for run in range(source.shape[0]):
        scales[run] = fit_values(source[run])


@njit(nogil=True, cache=True, error_model="numpy")
def write_iq4_nl_kernel(source, scales, blocks, known):
    """Writes IQ4_NL: F16 d, 16 bytes of quants.

    ``source``: (n, 32) float32. ``scales``: (n,) float32 of `search_values_kernel`.
    """
    for n in range(source.shape[0]):
        scale = settle_factor(blocks[n], 0, scales[n], known)
        _pack_run(source[n], reciprocal(scale), blocks[n], 2)


@njit(nogil=True, cache=True, error_model="numpy")
def write_iq4_xs_kernel(source, scales, blocks, known, heads):
    """Writes IQ4_XS: F16 d, 2 bytes of high pairs of the scales, 4 of their low halves, 128 bytes
    of quants, but these if only ``heads`` are wanted.

    ``source``: (n, 256) float32. ``scales``: (n, 8) float32 of `search_values_kernel`.
    """
    for n in range(source.shape[0]):
        block, values = blocks[n], source[n]
        factor = settle_factor(block, 0, find_peak_scale(scales[n]) / np.float32(-32), known)
        if known != SCALES:
            _write_scales(scales[n], reciprocal(factor), block)
        for run in range(0 if heads else 8):
            scale = factor * np.float32(_read_scale(block, run))
            part = values[_RUN * run : _RUN * run + _RUN]
            _pack_run(part, reciprocal(scale), block, 8 + 16 * run)


@njit(nogil=True, cache=True, error_model="numpy")
def _write_scales(scales, inverse, block):
    for i in range(2, 8):
        block[i] = 0
    for run in range(8):
        code = round_within(inverse * scales[run], -32, 31) + 32
        block[4 + run // 2] |= (code & 15) << (4 * (run % 2))
        block[2 + run // 4] |= (code >> 4) << (2 * (run % 4))


@njit(nogil=True, cache=True, error_model="numpy")
def _read_scale(block, run):
    low = (block[4 + run // 2] >> (4 * (run % 2))) & 15
    high = (block[2 + run // 4] >> (2 * (run % 4))) & 3
    return int(low | (high << 4)) - 32

"""Quantises to four-bit floats with a scale per run: MXFP4 and NVFP4.

Source: quantize_row_mxfp4_ref and quantize_row_nvfp4_ref in ggml-quants.c, ggml_fp32_to_ue4m3 in
ggml-impl.h, of the ggml project; "OCP Microscaling Formats (MX) v1.0". Kernels take arguments as
those of `simple` do.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import NOTHING

VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
"""Twice what the quants stand for; the scales below are half of what they stand for."""
_ZERO, _INFINITY = np.float32(0), np.float32(np.inf)
_LN_2 = 45426
"""The natural logarithm of 2, in units of 2**-16."""


@njit(nogil=True, cache=True, error_model="numpy")
def _find_largest(values):
    largest = _ZERO
    for i in range(values.size):
        if largest < abs(values[i]):
            largest = abs(values[i])
    return largest


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_run(values, scale, block, start, least, quants):
    """Finds for each element the first quant whose value is nearest, 0 for NaN, and packs them.

    ``least``, ``quants``: room for as many float32 and int32 as there are ``values``.
    """
    for i in range(values.size):
        quants[i], least[i] = 0, abs(VALUES[0] * scale - values[i])
    for quant in range(1, 16):
        level = VALUES[quant] * scale
        for i in range(values.size):
            apart = abs(level - values[i])
            quants[i] = quant if apart < least[i] else quants[i]
            least[i] = apart if apart < least[i] else least[i]
    half = values.size // 2
    for i in range(half):
        block[start + i] = quants[i] | (quants[half + i] << 4)


@njit(nogil=True, cache=True, error_model="numpy")
def _floor_log2(value):
    """Returns the floor of the float32 nearest to the logarithm to base 2 of a positive float32.

    Just below a power of two that float32 is the next integer.
    """
    bits = int(np.float32(value).view(np.uint32))
    mantissa, exponent = bits & 0x7FFFFF, (bits >> 23) - 127
    if exponent == -127:
        exponent = -150
        while mantissa >> (exponent + 150):
            exponent += 1
        mantissa = (mantissa << (-126 - exponent)) & 0x7FFFFF
    above = exponent + 1
    size = -above if above < 0 else above - 1
    if size <= 0:
        return exponent
    digits = 0
    while size >> (digits + 1):
        digits += 1
    return above if 0x800000 - mantissa <= (_LN_2 << digits) >> 16 else exponent


@njit(nogil=True, cache=True, error_model="numpy")
def read_exponent(code):
    """Returns half of the power of two that a byte stands for, 2**(code - 128)."""
    bits = 0x200000 << code if code < 2 else (code - 1) << 23
    return np.uint32(bits).view(np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_mxfp4_kernel(source, blocks, known):
    """Quantises to MXFP4: an exponent, 16 bytes of quants."""
    least, quants = np.empty(32, np.float32), np.empty(32, np.int32)
    for n in range(source.shape[0]):
        if known == NOTHING:
            largest = _find_largest(source[n])
            is_plain = largest > _ZERO and largest < _INFINITY
            blocks[n, 0] = (_floor_log2(largest) + 125) & 0xFF if is_plain else 0
        scale = read_exponent(int(blocks[n, 0]))
        _pack_run(source[n], scale, blocks[n], 1, least, quants)


@njit(nogil=True, cache=True, error_model="numpy")
def _write_scale(value):
    """Returns the byte of an unsigned E4M3 near a float32, halves upwards; 0 unless it is positive,
    126 (which stands for 448) from 248 on."""
    if not value > _ZERO:
        return 0
    value = min(value, np.float32(448))
    bits = int(np.float32(value).view(np.uint32))
    exponent = (bits >> 23) - 120
    if exponent <= 0:
        return min(7, int(value * np.float32(512) + np.float32(0.5)))
    # A mantissa that is rounded up past its end raises the exponent.
    code = (exponent << 3) + ((bits >> 20) & 7) + ((bits >> 19) & 1)
    return code if code < 120 else 126


@njit(nogil=True, cache=True, error_model="numpy")
def read_scale(code):
    """Returns half of what the low seven bits of a byte stand for in E4M3; 0 for 127."""
    exponent, mantissa = (code >> 3) & 15, code & 7
    if code in (0, 127):
        return _ZERO
    if exponent == 0:
        return np.float32(mantissa) * np.float32(2.0**-10)
    power = np.uint32((exponent + 119) << 23).view(np.float32)
    return (np.float32(1) + np.float32(mantissa) / np.float32(8)) * power


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_nvfp4_kernel(source, blocks, known):
    """Quantises to NVFP4: four scales, 32 bytes of quants."""
    least, quants = np.empty(16, np.float32), np.empty(16, np.int32)
    for n in range(source.shape[0]):
        for run in range(4):
            part = source[n, 16 * run : 16 * run + 16]
            if known == NOTHING:
                blocks[n, run] = _write_scale(_find_largest(part) / np.float32(6))
            scale = read_scale(int(blocks[n, run]))
            _pack_run(part, scale, blocks[n], 4 + 8 * run, least, quants)

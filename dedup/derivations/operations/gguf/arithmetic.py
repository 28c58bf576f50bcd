"""The steps of arithmetic that the block types are defined by (FORMAT.md, "Operations: GGUF").

Every function takes and returns float32, rounded to nearest, ties to even, operation by operation:
no kernel here is compiled with fastmath, so that LLVM neither reorders nor fuses. What C leaves
open is settled: the integer of a NaN is 0, an F16 that is NaN is 0x7E00.
"""

import numpy as np

from .....codecs.jit.cached import njit

ROUNDING = np.float32(12582912.0)
"""1.5 x 2**23: adding it to a float of at most 2**22 leaves no bits below 1."""
FIRST_INTEGER, LAST_INTEGER = -(1 << 22), (1 << 22) - 1
NOTHING, FACTORS, SCALES = 0, 1, 2
"""What of the blocks is known before the rest is predicted: nothing, the factors d, m and dmin, or
all that the quants are multiplied by."""
TINY = np.float32(1e-15)
"""A largest magnitude below this counts as zero in the searches."""
_NAN = np.uint32(0x7FC00000).view(np.float32)
_HALF = np.float32(0.5)
_ZERO = np.float32(0)
_INT32 = np.float32(2147483648.0)
_SUBNORMAL = np.float32(2.0**-24)


@njit(nogil=True, cache=True, error_model="numpy")
def round_even(value):
    """Returns the integer nearest to a float32, ties to even, within 2**22; 0 for NaN."""
    whole = (value + ROUNDING) - ROUNDING
    if whole != whole:
        return 0
    if whole < np.float32(FIRST_INTEGER):
        return FIRST_INTEGER
    if whole > np.float32(LAST_INTEGER):
        return LAST_INTEGER
    return int(whole)


@njit(nogil=True, cache=True, error_model="numpy")
def round_within(value, low, high):
    """Returns `round_even`, clipped to ``low`` to ``high``, as int32."""
    whole = (value + ROUNDING) - ROUNDING
    whole = whole if whole == whole else _ZERO
    whole = whole if whole > np.float32(low) else np.float32(low)
    whole = whole if whole < np.float32(high) else np.float32(high)
    return np.int32(whole)


@njit(nogil=True, cache=True, error_model="numpy")
def truncate(value, high):
    """Returns a float32 without its fraction, clipped to 0 to ``high``; 0 where it is NaN, or
    2**31 or more."""
    if value > _ZERO and value < _INT32:
        return min(high, int(value))
    return 0


@njit(nogil=True, cache=True, error_model="numpy")
def round_away(value):
    """Returns the integer nearest to a float32, ties away from zero; 0 for NaN, and for 2**31 or
    more."""
    magnitude = abs(value)
    if not magnitude < _INT32:
        return 0
    whole = int(magnitude)
    if magnitude - np.float32(whole) >= _HALF:
        whole += 1
    return -whole if value < _ZERO else whole


@njit(nogil=True, cache=True, error_model="numpy")
def reciprocal(value):
    """Returns 1 / ``value``, 0 for 0."""
    return np.float32(1) / value if value != _ZERO else _ZERO


@njit(nogil=True, cache=True, error_model="numpy")
def to_half(value):
    """Returns the bits of the F16 nearest to a float32, ties to even, as an int."""
    bits = int(np.float32(value).view(np.uint32))
    sign, magnitude = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    if magnitude > 0x7F800000:
        return 0x7E00
    if magnitude >= 0x47800000:
        return sign | 0x7C00
    if magnitude >= 0x38800000:
        return sign | ((magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13)
    # Below 2**-14 an F16 counts units of 2**-24.
    shift = 126 - (magnitude >> 23)
    if shift > 24:
        return sign
    mantissa = (magnitude & 0x7FFFFF) | 0x800000
    whole = mantissa >> shift
    rest, half = mantissa & ((1 << shift) - 1), 1 << (shift - 1)
    if rest > half or (rest == half and whole & 1):
        whole += 1
    return sign | whole


@njit(nogil=True, cache=True, error_model="numpy")
def from_half(bits):
    """Returns the float32 of an F16 given as an int; every NaN is the same one."""
    sign, magnitude = (bits & 0x8000) << 16, bits & 0x7FFF
    if magnitude > 0x7C00:
        return _NAN
    if magnitude == 0x7C00:
        return np.uint32(sign | 0x7F800000).view(np.float32)
    if magnitude >= 0x400:
        return np.uint32(sign | ((magnitude << 13) + 0x38000000)).view(np.float32)
    value = np.float32(magnitude) * _SUBNORMAL
    return -value if sign else value


@njit(nogil=True, cache=True, error_model="numpy")
def from_half_kernel(bits, values):
    """Writes the float32 of each of (n,) uint16 to ``values``, (n,) float32."""
    for i in range(bits.size):
        values[i] = from_half(int(bits[i]))


@njit(nogil=True, cache=True, error_model="numpy")
def read_half(block, at):
    """Returns the float32 of the little-endian F16 at byte ``at`` of (B,) uint8."""
    return from_half(int(block[at]) | (int(block[at + 1]) << 8))


@njit(nogil=True, cache=True, error_model="numpy")
def write_half(block, at, bits):
    """Puts the bits of an F16 at byte ``at`` of (B,) uint8."""
    block[at] = bits & 0xFF
    block[at + 1] = bits >> 8


@njit(nogil=True, cache=True, error_model="numpy")
def same_half(block, at, bits):
    """Says whether the F16 at byte ``at`` of (B,) uint8 has these bits."""
    return block[at] == (bits & 0xFF) and block[at + 1] == bits >> 8


@njit(nogil=True, cache=True, error_model="numpy")
def settle_nans_kernel(values):
    """Replaces each NaN of (n,) float32 by the one with bits 0x7FC00000."""
    for i in range(values.size):
        if values[i] != values[i]:
            values[i] = _NAN


@njit(nogil=True, cache=True, error_model="numpy")
def settle_factor(block, at, value, known):
    """Returns the factor that quants follow from, and puts it at byte ``at`` of (B,) uint8 as an
    F16 unless ``known`` says that the one there stays.

    A stored F16 that ``value`` rounds to stands for ``value`` itself: quantisers divide by what
    they had before they rounded.
    """
    bits = to_half(value)
    if known == NOTHING:
        write_half(block, at, bits)
        return value
    return value if same_half(block, at, bits) else read_half(block, at)

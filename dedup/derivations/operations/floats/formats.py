"""Floats as float32 and back, bit for bit as FORMAT.md says ("Operations: floats").

Everything works on bit patterns, or on float32 operations that IEEE 754 defines to the last bit, so
that every processor gives the same. NaNs never pass through arithmetic here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..values import Raw

Floats = NDArray[np.float32]

NAMES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_WORDS: dict[str, type[np.generic]] = {
    "F64": np.uint64,
    "F32": np.uint32,
    "F16": np.uint16,
    "BF16": np.uint16,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
}
_MANTISSA = {"F16": 10, "F8_E4M3": 3, "F8_E5M2": 2}
_BIAS = {"F16": 15, "F8_E4M3": 7, "F8_E5M2": 15}
_LARGEST = {"F16": 0x7BFF, "F8_E4M3": 0x7E, "F8_E5M2": 0x7B}
_INFINITY = {"F16": 0x7C00, "F8_E4M3": 0x7F, "F8_E5M2": 0x7C}


def as_words(dtype: str, raw: Raw) -> NDArray[Any]:
    """Returns raw bytes as read-only (n,) unsigned integers of a float's width.

    They are copied where they do not lie as the processor wants them.
    """
    word = np.dtype(_WORDS[dtype])
    if raw.ctypes.data % word.itemsize:
        raw = raw.copy()
    return freeze(raw.view(word))


def read_floats(dtype: str, raw: Raw, to_odd: bool = False) -> Floats:
    """Returns raw bytes as (n,) float32, read-only; exact for all but F64.

    F64 is rounded to nearest even, or `to_odd`: then what is cut off leaves a trace in the lowest
    bit, so that rounding once more to a narrower float gives what rounding once would have given
    (Boldo and Melquiond, IEEE Trans. Computers 57, 2008).
    """
    words = as_words(dtype, raw)
    if dtype == "F32":
        return words.view(np.float32)
    out = np.empty(words.size, np.uint32)
    if dtype == "F64":
        from_double_kernel(words, words.view(np.float64), to_odd, out)
    elif dtype == "BF16":
        from_bfloat_kernel(words, out)
    elif dtype == "F16":
        from_half_kernel(words, out)
    else:
        np.take(_widened(dtype), words, out=out)
    return freeze(out.view(np.float32))


def write_floats(values: Floats, dtype: str, saturate: bool, out: Raw) -> None:
    """Writes (n,) float32 as `dtype` to `out`, rounded to nearest even; F64 exactly.

    `saturate`: what is beyond the largest number of an FP8 dtype becomes that number, infinity
    included, instead of infinity (F8_E5M2) or NaN (F8_E4M3).
    """
    values = fit(values, out.size // np.dtype(_WORDS[dtype]).itemsize)
    words = values.view(np.uint32)
    room = out if not _misplaced(dtype, out) else np.empty_like(out)
    target = room.view(_WORDS[dtype])
    if dtype == "F32":
        target[:] = words
    elif dtype == "F64":
        to_double_kernel(words, values, target)
    elif dtype == "BF16":
        to_bfloat_kernel(words, target)
    else:
        kernel: Any = narrow_kernel
        kernel(words, values, *_narrowing(dtype, saturate), target)
    if room is not out:
        out[:] = room


def fit(values: Floats, count: int) -> Floats:
    """Returns the first `count` values, zeros where there are not so many. Kernels check nothing,
    and a recipe may give an operand of any length."""
    if values.size == count:
        return values
    out = np.zeros(count, np.float32)
    out[: values.size] = values[:count]
    return freeze(out)


def _misplaced(dtype: str, out: Raw) -> bool:
    return bool(out.ctypes.data % np.dtype(_WORDS[dtype]).itemsize)


def _narrowing(dtype: str, saturate: bool) -> Any:
    mantissa, bias, width = _MANTISSA[dtype], _BIAS[dtype], 8 * np.dtype(_WORDS[dtype]).itemsize
    shift = 23 - mantissa
    largest = _LARGEST[dtype]
    beyond = largest if saturate and width == 8 else _INFINITY[dtype]
    least = (128 - bias) << 23
    # The float32 whose last bit is worth what a subnormal's is.
    magic = np.float32(2.0 ** (24 - bias - mantissa))
    numbers = (shift, 127 - bias, least, largest, beyond, width - 1, width == 16)
    return (magic, *(np.uint32(number) for number in numbers))


def _widened(dtype: str) -> NDArray[np.uint32]:
    table = _TABLES.get(dtype)
    if table is None:
        table = _TABLES[dtype] = np.array([_widen(dtype, code) for code in range(256)], np.uint32)
    return table


_TABLES: dict[str, NDArray[np.uint32]] = {}


def _widen(dtype: str, code: int) -> int:
    """Returns the bits of the float32 that an FP8 code stands for; NaNs are quiet."""
    mantissa, bias = _MANTISSA[dtype], _BIAS[dtype]
    sign, magnitude = (code & 128) << 24, code & 127
    fraction = magnitude & ((1 << mantissa) - 1)
    if magnitude > _INFINITY[dtype] or magnitude == 0x7F:
        return sign | 0x7FC00000 | fraction << (23 - mantissa)
    if magnitude == _INFINITY[dtype]:
        return sign | 0x7F800000
    exponent = magnitude >> mantissa
    scaled = fraction if not exponent else fraction | 1 << mantissa
    value = np.float32(scaled) * np.float32(2.0) ** (max(exponent, 1) - bias - mantissa)
    return sign | int(np.float32(value).view(np.uint32))


@njit(nogil=True, cache=True)
def from_double_kernel(words, values, to_odd, out):
    """Rounds (n,) float64, given as `words` and `values`, to float32 bits in `out`."""
    for i in range(words.size):
        word, value = words[i], values[i]
        near = np.float32(value)
        bits = np.float32(near).view(np.uint32)
        if to_odd:
            back = np.float64(near)
            if back != value:
                bits = np.uint32((bits - np.uint32(abs(back) > abs(value))) | np.uint32(1))
        if word & np.uint64(0x7FFFFFFFFFFFFFFF) > np.uint64(0x7FF0000000000000):
            sign = np.uint32(word >> np.uint64(32)) & np.uint32(0x80000000)
            fraction = np.uint32((word >> np.uint64(29)) & np.uint64(0x3FFFFF))
            bits = sign | np.uint32(0x7FC00000) | fraction
        out[i] = bits


@njit(nogil=True, cache=True)
def to_double_kernel(words, values, out):
    """Widens (n,) float32, given as `words` and `values`, to float64 bits in `out`."""
    for i in range(words.size):
        word = words[i]
        bits = np.float64(values[i]).view(np.uint64)
        if word & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):
            sign = np.uint64(word & np.uint32(0x80000000)) << np.uint64(32)
            fraction = np.uint64(word & np.uint32(0x3FFFFF)) << np.uint64(29)
            bits = sign | np.uint64(0x7FF8000000000000) | fraction
        out[i] = bits


@njit(nogil=True, cache=True)
def from_bfloat_kernel(words, out):
    """Widens (n,) BF16 to float32 bits."""
    for i in range(words.size):
        out[i] = np.uint32(words[i]) << np.uint32(16)


@njit(nogil=True, cache=True)
def to_bfloat_kernel(words, out):
    """Rounds (n,) float32 bits to BF16; every NaN becomes 0x7FC0."""
    for i in range(words.size):
        word = words[i]
        odd = (word >> np.uint32(16)) & np.uint32(1)
        near = np.uint32(word + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        is_nan = (word & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        out[i] = np.uint16(np.uint32(0x7FC0) if is_nan else near)


@njit(nogil=True, cache=True)
def from_half_kernel(words, out):
    """Widens (n,) F16 to float32 bits; NaNs become quiet."""
    for i in range(words.size):
        word = np.uint32(words[i])
        magnitude = word & np.uint32(0x7FFF)
        # A subnormal is a small integer times 2^-24, which float32 holds exactly.
        small = np.float32(np.int32(magnitude)) * np.float32(2.0**-24)
        bits = (magnitude << np.uint32(13)) + np.uint32(112 << 23)
        if magnitude < np.uint32(0x0400):
            bits = np.float32(small).view(np.uint32)
        if magnitude >= np.uint32(0x7C00):
            bits += np.uint32(112 << 23)
        if magnitude > np.uint32(0x7C00):
            bits |= np.uint32(0x400000)
        out[i] = bits | ((word & np.uint32(0x8000)) << np.uint32(16))


@njit(nogil=True, cache=True)
def narrow_kernel(words, values, magic, shift, lift, least, largest, beyond, top, keeps, out):
    """Rounds (n,) float32, given as `words` and `values`, to a float with a 4 or 5 bit exponent.

    `shift`: mantissa bits to drop. `lift`: how much smaller its exponents are. `least`: float32
    bits of its smallest normal number. `magic`: a float32 whose last bit is worth what a
    subnormal's is. `largest`, `beyond`: its largest code, and the one of what is larger. `top`:
    the place of its sign. `keeps`: 1 where a NaN keeps the top of its payload, 0 where its
    magnitude becomes 0x7F.
    """
    base = np.float32(magic).view(np.uint32)
    half = np.uint32((np.uint32(1) << (shift - np.uint32(1))) - np.uint32(1))
    offset = np.uint32(lift << np.uint32(23))
    for i in range(words.size):
        word = words[i]
        magnitude = word & np.uint32(0x7FFFFFFF)
        small = np.float32(abs(values[i]) + magic).view(np.uint32) - base
        odd = (magnitude >> shift) & np.uint32(1)
        code = np.uint32(magnitude + half + odd - offset) >> shift
        code = np.uint32(small) if magnitude < least else code
        code = beyond if code > largest else code
        if magnitude > np.uint32(0x7F800000):
            payload = ((magnitude >> shift) & np.uint32(0x1FF)) | np.uint32(0x7E00)
            code = payload if keeps == np.uint32(1) else np.uint32(0x7F)
        out[i] = code | ((word >> np.uint32(31)) << top)

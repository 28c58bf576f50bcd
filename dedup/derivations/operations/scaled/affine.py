"""MLX's affine groups: codes, scales and biases from the source alone (FORMAT.md, "Operations:
scaled codes")."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe
from ..floats.formats import NAMES, read_floats, write_floats
from ..values import Raw, Values
from . import packing

CODES, SCALES, BIASES = range(3)
_STRUCT = struct.Struct("<BBI")
_ORDER = bytes(range(packing.PLACES))
_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}


def pack_affine(gives: int, bits: int, group: int) -> bytes:
    """Returns the parameters: CODES, SCALES or BIASES, bits of a code, elements of a group."""
    return _STRUCT.pack(gives, bits, group)


class Affine:
    """One operand, the source: with the ratio codes in a word : 1 for codes, group : 1 for scales
    and biases. Ranges of codes begin and end with a group."""

    name = "affine"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` is total for these."""
        if len(parameters) != _STRUCT.size or len(dtypes) != 1 or dtypes[0] not in NAMES:
            raise InvalidRecipe("affine groups of something else")
        gives, bits, group = _STRUCT.unpack(parameters)
        if gives > BIASES or bits not in (2, 4, 8) or group not in (32, 64, 128):
            raise InvalidRecipe("affine groups with unknown parameters")
        if dtype != "U32" if gives == CODES else dtype not in _FLOATS:
            raise InvalidRecipe(f"affine groups in {dtype}")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with words of codes, or with scales or biases."""
        gives, bits, group = _STRUCT.unpack(parameters)
        source = read_floats(operands[0].dtype, operands[0].raw)
        high = (1 << bits) - 1
        codes_there = out.size * 8 // bits
        count = -(-codes_there // group) if gives == CODES else out.size // _FLOATS[dtype]
        sides = np.zeros((2, count), np.float32)
        codes = np.zeros(count * group if gives == CODES else 0, np.uint8)
        affine_kernel(source, group, high, sides[0], sides[1], codes)
        if gives == CODES:
            packing.pack_codes(codes[:codes_there], bits, _ORDER, 4, out)
        else:
            write_floats(sides[gives - SCALES], dtype, False, out)


OPERATION = Affine()


@njit(nogil=True, cache=True, error_model="numpy")
def affine_kernel(source, group, high, scales, biases, codes):
    """Writes the scale and bias of each group of (n,) float32, and codes where there is room.

    As MLX does: the end of larger magnitude becomes a multiple of the scale, and so zero has a
    code of its own. What is not there, or NaN, is zero.
    """
    one = np.float32(high)
    for place in range(scales.size):
        begin = min(place * group, source.size)
        stop = min(begin + group, source.size)
        low, top = np.float32(np.inf), np.float32(-np.inf)
        for i in range(begin, stop):
            value = source[i]
            low = value if value < low else low
            top = value if value > top else top
        if low > top:
            low, top = np.float32(0), np.float32(0)
        scale = np.float32((top - low) / one)
        scale = scale if scale > np.float32(1e-7) else np.float32(1e-7)
        edge = low
        if not abs(low) > abs(top):
            scale, edge = -scale, top
        whole = np.float32(np.rint(np.float32(edge / scale)))
        if whole != np.float32(0):
            scale = np.float32(edge / whole)
        else:
            edge = np.float32(0)
        scales[place], biases[place] = scale, edge
        if codes.size:
            for i in range(begin, stop):
                value = np.float32(np.rint(np.float32(np.float32(source[i] - edge) / scale)))
                value = value if value == value else np.float32(0)
                codes[i] = np.uint8(min(max(value, np.float32(0)), one))

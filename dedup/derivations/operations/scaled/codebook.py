"""bitsandbytes' codes of four bits from the source alone (FORMAT.md, "Operations: scaled codes").

T. Dettmers et al., QLoRA, arXiv:2305.14314.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe
from ..floats.formats import NAMES, Floats, read_floats
from ..values import Raw, Values
from .groups import find_peaks

NF4, FP4, FP4_CROSSED = range(3)
"""FP4_CROSSED is what bitsandbytes 0.50 writes on processors: of the two zeros, what is positive
has the negative one."""
BY_INVERSE, DIVIDED = range(2)
MOST_GROUP = 1 << 16
_PIECE = 2048
_STRUCT = struct.Struct("<BBI")
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""What the codes of NF4 stand for, as shares of the peak."""
_FP4_EDGES = (0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333)
_FP4_CODES = (0, 1, 6, 7, 4, 5, 2, 3)


def pack_codebook(kind: int, group: int, scaling: int = BY_INVERSE) -> bytes:
    """Returns the parameters: NF4 or FP4, elements of a group, BY_INVERSE or DIVIDED."""
    return _STRUCT.pack(kind, scaling, group)


class Codebook:
    """One operand, the source, two elements for each byte. Ranges begin and end with a group."""

    name = "codebook"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` is total for these."""
        if len(parameters) != _STRUCT.size or len(dtypes) != 1 or dtypes[0] not in NAMES:
            raise InvalidRecipe("a codebook for something else")
        kind, scaling, group = _STRUCT.unpack(parameters)
        if kind > FP4_CROSSED or scaling > DIVIDED or not 0 < group <= MOST_GROUP or group % 2:
            raise InvalidRecipe("a codebook with unknown parameters")
        if dtype not in ("U8", "I8"):
            raise InvalidRecipe(f"a codebook in {dtype}")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with two codes a byte, the first in the upper half."""
        kind, scaling, group = _STRUCT.unpack(parameters)
        source = read_floats(operands[0].dtype, operands[0].raw)
        peaks = find_peaks(source, group, -(-2 * out.size // group))
        factors = peaks
        if scaling == BY_INVERSE:
            with np.errstate(divide="ignore", over="ignore"):
                factors = freeze(np.float32(1) / peaks)
        edges, codes, sign = _codes(kind)
        crossed = kind == FP4_CROSSED
        codes_kernel(source, factors, group, scaling == DIVIDED, edges, codes, sign, crossed, out)


OPERATION = Codebook()


@cache
def _codes(kind: int) -> tuple[Floats, NDArray[np.uint8], np.uint8]:
    """Returns the edges between codes, the codes, and the bit of the sign, 0 where edges have
    signs themselves."""
    if kind != NF4:
        edges = np.array(_FP4_EDGES, np.float32)
        return freeze(edges), freeze(np.array(_FP4_CODES, np.uint8)), np.uint8(8)
    values = np.array(NF4_VALUES, np.float32).astype(np.float64)
    edges = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    return freeze(edges), freeze(np.arange(16, dtype=np.uint8)), np.uint8(0)


@njit(nogil=True, cache=True, error_model="numpy")
def codes_kernel(source, factors, group, divided, edges, codes, sign, crossed, out):
    """Writes the codes of (n,) float32, two a byte. What is not there is zero; NaN has code 0 of
    the edges. In pieces, so that each step is a plain loop that LLVM makes vectors of."""
    scaled, places = np.empty(_PIECE, np.float32), np.empty(_PIECE, np.int32)
    sizes = np.empty(_PIECE, np.float32)
    for begin in range(0, 2 * out.size, _PIECE):
        count = min(_PIECE, 2 * out.size - begin)
        _scale(source, factors, group, divided, begin, scaled[:count])
        for i in range(count):
            sizes[i] = abs(scaled[i]) if sign else scaled[i]
            places[i] = 0
        for k in range(edges.size):
            edge = edges[k]
            for i in range(count):
                places[i] += np.int32(1) if sizes[i] > edge else np.int32(0)
        for byte in range(count // 2):
            both = np.uint8(0)
            for i in range(2 * byte, 2 * byte + 2):
                code = codes[places[i]]
                is_signed = scaled[i] < np.float32(0)
                if crossed and places[i] == 0:
                    is_signed = scaled[i] > np.float32(0)
                code = code | sign if is_signed else code
                both = np.uint8((both << np.uint8(4)) | code)
            out[begin // 2 + byte] = both


@njit(nogil=True, cache=True, error_model="numpy")
def _scale(source, factors, group, divided, begin, out):
    at = 0
    while at < out.size:
        element = begin + at
        factor = factors[element // group]
        stop = min(at + group - element % group, out.size)
        for i in range(at, stop):
            value = source[begin + i] if begin + i < source.size else np.float32(0)
            out[i] = value / factor if divided else value * factor
        at = stop

"""bitsandbytes' nested scales: the peaks of groups as codes of a table (FORMAT.md, "Operations:
scaled codes")."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe
from ..floats.formats import NAMES, read_floats
from ..values import Raw, Values
from .groups import find_peaks

MOST_GROUP = 1 << 16
_STRUCT = struct.Struct("<fII")


def pack_nested(offset: float, group: int, block: int) -> bytes:
    """Returns the parameters: what peaks are lowered by, elements of a group, groups of a block."""
    return _STRUCT.pack(offset, group, block)


class NestedScales:
    """Operands: the source, with the ratio group : 1; the peaks of blocks, 1 : block; the table,
    256 ascending F32, as a whole."""

    name = "nested scales"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` is total for these."""
        if len(parameters) != _STRUCT.size or len(dtypes) != 3 or dtypes[0] not in NAMES:
            raise InvalidRecipe("nested scales of something else")
        _, group, block = _STRUCT.unpack(parameters)
        if not 0 < group <= MOST_GROUP or not 0 < block <= MOST_GROUP:
            raise InvalidRecipe("nested scales with unknown parameters")
        if list(dtypes[1:]) != ["F32", "F32"] or dtype != "U8":
            raise InvalidRecipe(f"nested scales in {dtype}")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with the codes of groups from `first` on."""
        offset, group, block = _STRUCT.unpack(parameters)
        source, blocks, given = (read_floats(each.dtype, each.raw) for each in operands)
        table = np.zeros(256, np.float32)
        table[: given.size] = given[:256]
        peaks = find_peaks(source, group, out.size)
        start = first - first // block * block
        nested_kernel(peaks, np.float32(offset), blocks, start, block, freeze(table), out)


OPERATION = NestedScales()


@njit(nogil=True, cache=True, error_model="numpy")
def nested_kernel(peaks, offset, blocks, start, block, table, out):
    """Writes the place in the table of what is nearest to each peak, lowered and divided by its
    block's; of two that are as near, the lower. The first one where nothing is less far than
    infinity."""
    for i in range(out.size):
        place = (start + i) // block
        scale = blocks[place] if place < blocks.size else np.float32(0)
        value = np.float32(np.float32(peaks[i] - offset) / scale)
        best, least = 0, np.float32(np.inf)
        for k in range(256):
            away = abs(np.float32(table[k] - value))
            if away < least:
                best, least = k, away
        out[i] = np.uint8(best)

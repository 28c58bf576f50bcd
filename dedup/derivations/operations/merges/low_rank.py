"""A base plus the product of two small matrices: an adapter merged (FORMAT.md, "Operations:
merges"). E. Hu et al., LoRA, arXiv:2106.09685."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe
from ..floats.arithmetic import ARITHMETIC, round_all
from ..floats.formats import NAMES, fit, read_floats, write_floats
from ..values import Raw, Values

MOST_RANK = 1024
MOST_COLUMNS = 1 << 24
_STRUCT = struct.Struct("<BBfIIQ")
_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


def pack_low_rank(
    rank: int, columns: int, scale: float, product: str = "F32", change: str = "F32", start: int = 0
) -> bytes:
    """Returns the parameters. `product`, `change`: the dtypes that the product of the matrices, and
    it times the scale, are rounded to. `start`: elements of the base before this chunk."""
    rounds = ARITHMETIC.index(product), ARITHMETIC.index(change)
    return _STRUCT.pack(*rounds, scale, rank, columns, start)


class LowRank:
    """Operands: the base (ratio 1 : 1); A, (rank, columns), and B, (rows, rank), as a whole."""

    name = "low rank"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` is total for these."""
        if len(parameters) != _STRUCT.size or len(dtypes) != 3 or dtype not in _WIDTHS:
            raise InvalidRecipe(f"a product of matrices in {dtype}")
        product, change, _, rank, columns, start = _STRUCT.unpack(parameters)
        if max(product, change) >= len(ARITHMETIC) or any(each not in NAMES for each in dtypes):
            raise InvalidRecipe("a product of matrices with unknown parameters")
        if not 0 < rank <= MOST_RANK or not 0 < columns <= MOST_COLUMNS or start > 1 << 48:
            raise InvalidRecipe("a product of matrices that are too large")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with the base plus the product."""
        product, change, scale, rank, columns, start = _STRUCT.unpack(parameters)
        base, right, left = (read_floats(each.dtype, each.raw) for each in operands)
        count = out.size // _WIDTHS[dtype]
        sums = np.zeros(count, np.float32)
        product_kernel(right, left, rank, columns, start + first, sums)
        with np.errstate(all="ignore"):
            rounded = round_all(freeze(sums), ARITHMETIC[product])
            moved = round_all(rounded * np.float32(scale), ARITHMETIC[change])
            total = round_all(fit(base, count) + moved, "F32")
        write_floats(total, dtype, False, out)


OPERATION = LowRank()


@njit(nogil=True, cache=True, error_model="numpy")
def product_kernel(right, left, rank, columns, start, sums):
    """Adds to ``sums`` the elements of B A from ``start`` on, products and sums rounded one by one
    in the order of the rank; products with elements that are not there are left out."""
    at = 0
    while at < sums.size:
        row, column = (start + at) // columns, (start + at) % columns
        run = min(columns - column, sums.size - at)
        for k in range(rank):
            place = row * rank + k
            begin = k * columns + column
            if place >= left.size:
                break
            factor = left[place]
            for i in range(min(run, right.size - begin)):
                sums[at + i] = np.float32(sums[at + i] + np.float32(factor * right[begin + i]))
        at += run

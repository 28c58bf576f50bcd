"""Vectors of float32, one lane for each of many runs side by side, as LLVM IR.

Every lane adds up its own run in the order of the elements, so that the bits are those of the plain
searches. The vectors are plain ones, which LLVM fits to any processor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from ......codecs.rans.steps import IntrinsicCall
from ......codecs.simd.paths import available_paths
from ......codecs.simd.vector_ir import (
    I64,
    Value,
    add,
    call,
    load,
    open_loop,
    store,
    vector,
)
from ..arithmetic import ROUNDING

WIDTH = 16 if "avx512" in available_paths() else 8
"""Lanes of a vector."""
GROUPS = 4
"""Vectors side by side: what one waits for, the others fill."""
LANES = WIDTH * GROUPS
"""Runs side by side."""
FLOAT = ir.FloatType()
KIND = vector(FLOAT, WIDTH)
ROW_BYTES = 4 * LANES
STEP = float(np.float32(0.1))


class Lanes:
    """Emits operations on vectors of float32. ``rows``: where the elements, and what is kept for
    each of them, lie: (count, LANES) float32 each."""

    def __init__(self, b: ir.IRBuilder, rows: Sequence[Value], count: int) -> None:
        self.b, self.rows, self.count = b, rows, count
        self.zero = self.constant(0.0)

    def constant(self, value: float) -> Value:
        """Returns ``value`` in every lane."""
        return ir.Constant(KIND, [float(value)] * WIDTH)

    def get(self, row: int, at: Value, group: int) -> Value:
        """Loads the element ``at`` of a row."""
        return load(self.b, KIND, self._place(row, at, group))

    def put(self, row: int, at: Value, group: int, value: Value) -> None:
        """Stores the element ``at`` of a row."""
        store(self.b, value, self._place(row, at, group))

    def _place(self, row: int, at: Value, group: int) -> Value:
        b = self.b
        begin = add(b, self.rows[row], 4 * WIDTH * group)
        return b.add(begin, b.mul(at, ir.Constant(I64, ROW_BYTES)))

    def each(self, initial: Sequence[Value], step: Callable[[Value, list[Value]], Any]) -> Any:
        """Emits a loop over the elements that carries values from one to the next; returns the
        last ones."""
        last = ir.Constant(I64, self.count)
        start = [ir.Constant(I64, 0), *initial]
        loop = open_loop(self.b, start, lambda carried: self.b.icmp_signed("<", carried[0], last))
        at, *carried = loop.carried
        values = step(at, carried)
        loop.close([add(self.b, at, 1), *values])
        return loop.carried[1:]

    def magnitude(self, value: Value) -> Value:
        """Returns the lanes without their signs."""
        return call(self.b, f"llvm.fabs.v{WIDTH}f32", KIND, [value])

    def where(self, sign: str, one: Value, other: Value, yes: Value, no: Value) -> Value:
        """Returns ``yes`` where ``one sign other``, else ``no``; no comparison holds for NaN."""
        return self.b.select(self.b.fcmp_ordered(sign, one, other), yes, no)

    def round(self, value: Value, low: float, high: float) -> Value:
        """Returns `arithmetic.round_within` as a float, but ``low`` for NaN."""
        # Clipped before the magic number goes off again: LLVM knows an instruction for that, but
        # not for the larger of a value and 0.
        b, magic = self.b, float(ROUNDING)
        whole = b.fadd(value, self.constant(magic))
        first, last = self.constant(magic + low), self.constant(magic + high)
        whole = self.where(">", whole, first, whole, first)
        whole = self.where("<", whole, last, whole, last)
        return b.fsub(whole, self.constant(magic))


def place_rows(given: IntrinsicCall, rows: int, count: int) -> list[Value]:
    """Returns the addresses of the rows in the first argument, (rows, count, LANES) float32."""
    start = given.address(0)
    return [add(given.builder, start, row * count * ROW_BYTES) for row in range(rows)]


def store_groups(given: IntrinsicCall, index: int, at: Value, values: Sequence[Value]) -> None:
    """Stores a vector for each group in the argument ``index``, from item ``at`` on."""
    begin = given.address(index, at, 4)
    for group, value in enumerate(values):
        store(given.builder, value, add(given.builder, begin, 4 * WIDTH * group))

"""The vector loop that measures how far floats moved, per instruction set (see ``delta.scales``).

It adds up in the eight interleaved parts of the plain loop, so that both round alike. On a machine
without the instructions it compiles to nothing.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..simd.calls import IntrinsicCall
from ..simd.paths import available_paths
from ..simd.vector_ir import (
    I32,
    I64,
    Value,
    add,
    broadcast,
    call,
    halve,
    load,
    open_loop,
    splat,
    store,
    vector,
)
from ..simd.vector_sets import Avx2, Avx512

_FLOAT = ir.FloatType()
_PARTS = 8
_MOST = 1.0000000150474662e30
"""The float32 nearest to 1e30: no movement counts that is larger."""
STEP = 16
"""Rows are measured where their length is a multiple of this."""


def _measurer(path: str, lanes: int, bits: int, has_sums: bool) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        if path in available_paths():
            emitter = _Emitter(builder, lanes, bits, call.integer(2), call.integer(4))
            addresses = [call.address(index) for index in (0, 1, 5, 6)]
            emitter.emit_rows(call.integer(3), addresses, has_sums)
        return context.get_dummy_value()

    @intrinsic
    def measure_steps(_context, target, base, lift, rows, length, means, sums):
        """Writes the mean movement of each of ``rows`` rows to ``means``; adds up that of columns
        in ``sums`` where that is wanted.
        """
        return types.void(target, base, lift, rows, length, means, sums), generate

    return measure_steps


class _Emitter:
    def __init__(self, b: ir.IRBuilder, lanes: int, bits: int, lift: Value, length: Value) -> None:
        self.b, self.lanes, self.bits, self.length = b, lanes, bits, length
        self.lift = broadcast(b, b.trunc(lift, I32), lanes)

    def emit_rows(self, rows: Value, addresses: list[Value], has_sums: bool) -> None:
        """Emits the loop over rows; ``addresses``: of target, base, means and sums."""
        b, zero = self.b, ir.Constant(I64, 0)
        target, base, means, sums = addresses
        loop = open_loop(b, [zero], lambda carried: b.icmp_signed("<", carried[0], rows))
        (row,) = loop.carried
        begin = b.mul(b.mul(row, self.length), ir.Constant(I64, self.bits // 8))
        places = b.add(target, begin), b.add(base, begin)
        parts = self._emit_row(places, sums if has_sums else None)
        mean = b.fdiv(self._add_up(parts), b.uitofp(self.length, _FLOAT))
        store(b, mean, b.add(means, b.mul(row, ir.Constant(I64, 4))))
        loop.close([add(b, row, 1)])

    def _emit_row(self, places: tuple[Value, Value], sums: Value | None) -> Value:
        """Emits the loop over one row; returns the sums of its eight parts."""
        b, nothing = self.b, ir.Constant(vector(_FLOAT, _PARTS), [0.0] * _PARTS)
        start = [ir.Constant(I64, 0), nothing]
        loop = open_loop(b, start, lambda carried: b.icmp_signed("<", carried[0], self.length))
        position, parts = loop.carried
        distance = self._distance(places, position)
        if sums is not None:
            at = b.add(sums, b.mul(position, ir.Constant(I64, 4)))
            store(b, b.fadd(load(b, distance.type, at), distance), at)
        for part in halve(b, distance) if self.lanes > _PARTS else [distance]:
            parts = b.fadd(parts, part)
        loop.close([add(b, position, self.lanes), parts])
        return loop.carried[1]

    def _distance(self, places: tuple[Value, Value], position: Value) -> Value:
        b = self.b
        offset = b.mul(position, ir.Constant(I64, self.bits // 8))
        one, other = (self._as_floats(b.add(place, offset)) for place in places)
        kind = vector(_FLOAT, self.lanes)
        apart = call(b, f"llvm.fabs.v{self.lanes}f32", kind, [b.fsub(one, other)])
        # Not so for NaN, either.
        is_sound = b.fcmp_ordered("<", apart, ir.Constant(kind, [_MOST] * self.lanes))
        return b.select(is_sound, apart, ir.Constant(kind, [0.0] * self.lanes))

    def _as_floats(self, address: Value) -> Value:
        b, kind = self.b, vector(I32, self.lanes)
        words = load(b, vector(ir.IntType(self.bits), self.lanes), address)
        a = words if self.bits == 32 else b.zext(words, kind)
        low = splat(a, (1 << (self.bits - 1)) - 1)
        sign = b.shl(b.lshr(a, splat(a, self.bits - 1)), splat(a, 31))
        word = b.or_(b.shl(b.and_(a, low), self.lift), sign)
        return b.bitcast(word, vector(_FLOAT, self.lanes))

    def _add_up(self, parts: Value) -> Value:
        b = self.b
        numbers: list[Value] = [b.extract_element(parts, I32(i)) for i in range(_PARTS)]
        while len(numbers) > 1:
            numbers = [b.fadd(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        return numbers[0]


measure_rows16_avx2 = _measurer("avx2", Avx2.width, 16, has_sums=False)
measure_rows16_avx512 = _measurer("avx512", Avx512.width, 16, has_sums=False)
measure_sums16_avx2 = _measurer("avx2", Avx2.width, 16, has_sums=True)
measure_sums16_avx512 = _measurer("avx512", Avx512.width, 16, has_sums=True)
measure_rows32_avx2 = _measurer("avx2", Avx2.width, 32, has_sums=False)
measure_rows32_avx512 = _measurer("avx512", Avx512.width, 32, has_sums=False)
measure_sums32_avx2 = _measurer("avx2", Avx2.width, 32, has_sums=True)
measure_sums32_avx512 = _measurer("avx512", Avx512.width, 32, has_sums=True)

"""The inner loops that write prefix codes, as functions that Numba code can call.

Numba makes twice as many instructions of them: it asks of every index whether it is negative.
Nothing is checked here.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..simd.calls import IntrinsicCall
from ..simd.vector_ir import I8, I16, I64, Value, add, call, load, open_loop, store
from .loops import ROW_LANES

GROUP = 4
"""Codes of 12 bits that a register takes beside 7 bits that were not written yet."""
_ENTRY_LOG2, _ROW_LOG2 = 2, 10


def _write_next(_context, symbols, begin, table, out, at, state, groups):
    """Writes the codes of ``groups`` times four symbols from ``symbols[begin]`` on to ``out[at:]``;
    returns where the next is written.

    ``table``: (256,) uint32 of ``look_ups.index_codes_kernel``. ``state``: (2,) uint64, updated:
    bits of which the last may not be written yet, and how many are not.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        writer = _Writer(builder, args.address(2), 1)
        places = [args.address(0, args.integer(1))]
        return writer.emit(places, args.address(3), args.integer(4), args.address(5), args)

    return types.int64(symbols, begin, table, out, at, state, groups), generate


write_next: Any = intrinsic(_write_next)


def _write_every_eighth(_context, symbols, begin, table, out, at, state, groups):
    """Like ``write_next``, of every eighth symbol."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        writer = _Writer(builder, args.address(2), ROW_LANES)
        places = [args.address(0, args.integer(1))]
        return writer.emit(places, args.address(3), args.integer(4), args.address(5), args)

    return types.int64(symbols, begin, table, out, at, state, groups), generate


write_every_eighth: Any = intrinsic(_write_every_eighth)


def _write_by_context(_context, symbols, contexts, begin, table, out, at, state, groups):
    """Like ``write_every_eighth``, each by its row of ``table``, (rows, 256), in ``contexts``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        writer = _Writer(builder, args.address(3), ROW_LANES)
        places = [args.address(index, args.integer(2)) for index in (0, 1)]
        return writer.emit(places, args.address(4), args.integer(5), args.address(6), args)

    return types.int64(symbols, contexts, begin, table, out, at, state, groups), generate


write_by_context: Any = intrinsic(_write_by_context)


class _Writer:
    """Emits one loop over symbols that lie ``stride`` apart."""

    def __init__(self, builder: ir.IRBuilder, table: Value, stride: int) -> None:
        self.b, self.table, self.stride = builder, table, stride

    def emit(self, places: list[Value], out: Value, at: Value, state: Value, args: Any) -> Value:
        """Emits the loop; ``places``: where symbols are, and perhaps their contexts. The last of
        ``args`` is the number of groups.
        """
        b, groups = self.b, args.integer(-1)
        first = [groups, b.add(out, at), load(b, I64, state), load(b, I64, add(b, state, 8))]
        loop = open_loop(
            b, [*first, *places], lambda carried: b.icmp_signed(">", carried[0], _number(0))
        )
        left, end, bits, held, *places = loop.carried
        joined, size = self._join_group(places)
        bits = b.or_(b.shl(bits, size), joined)
        held = b.add(held, size)
        unused = b.and_(b.neg(held), _number(63))
        store(b, call(b, "llvm.bswap.i64", I64, [b.shl(bits, unused)]), end)
        end = b.add(end, b.lshr(held, _number(3)))
        step = [add(b, place, GROUP * self.stride) for place in places]
        loop.close([add(b, left, -1), end, bits, b.and_(held, _number(7)), *step])
        _, end, bits, held, *_ = loop.carried
        store(b, bits, state)
        store(b, held, add(b, state, 8))
        return b.sub(end, out)

    def _join_group(self, places: list[Value]) -> tuple[Value, Value]:
        """Returns the codes of a group as one, and its length."""
        found = [self._find(places, self.stride * step) for step in range(GROUP)]
        return self._join(self._join(*found[:2]), self._join(*found[2:]))

    def _join(self, one: tuple[Value, Value], other: tuple[Value, Value]) -> tuple[Value, Value]:
        b = self.b
        upper = b.shl(one[0], b.and_(other[1], _number(63)))
        return b.or_(upper, other[0]), b.add(one[1], other[1])

    def _find(self, places: list[Value], offset: int) -> tuple[Value, Value]:
        """Returns the code of a symbol, and its length.

        They are loaded apart: shifts are what these loops have too many of.
        """
        b = self.b
        symbol, *context = (b.zext(load(b, I8, add(b, place, offset)), I64) for place in places)
        at = b.add(self.table, b.shl(symbol, _number(_ENTRY_LOG2)))
        for row in context:
            at = b.add(at, b.shl(row, _number(_ROW_LOG2)))
        return b.zext(load(b, I16, add(b, at, 1)), I64), b.zext(load(b, I8, at), I64)


def _number(value: int) -> ir.Constant:
    return ir.Constant(I64, value)

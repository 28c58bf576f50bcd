"""The inner loops of prefix codes, as functions that Numba code can call.

They are plain 64-bit loads, shifts and stores, unrolled over several bit sequences so that one
waits for its look-up while others do theirs; Numba cannot express unaligned loads. Bits are read
from the highest of each byte on. A register of bits ends in a one below them, which falls back
towards its top as bits are taken: the zeros below it are their number.

Nothing is checked here: callers give no more rounds than input and output have room for.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..simd.calls import IntrinsicCall
from ..simd.vector_ir import I8, I16, I64, Value, add, call, load, open_loop, store
from .codes import PLANE_BITS, ROW_BITS

PLANE_LANES = 4
ROW_LANES = 8
PLANE_ROUND = 4
"""Look-ups of 12 bits that a register of 57 bits or more is good for."""
ROW_ROUND = 5
"""Look-ups of 11 bits likewise."""
PLANE_STEP_BYTES = PLANE_ROUND * PLANE_BITS // 8 + 1
ROW_STEP_BYTES = ROW_ROUND * ROW_BITS // 8 + 1
"""By how many bytes a lane gets on in one round, at most."""


def _number(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _fill(b: ir.IRBuilder, source: Value, place: Value) -> Value:
    """Returns a register of the bits from bit ``place`` on."""
    at = b.add(source, b.lshr(place, _number(3)))
    word = call(b, "llvm.bswap.i64", I64, [load(b, I64, at)])
    return b.shl(b.or_(word, _number(1)), b.and_(place, _number(7)))


def _taken(b: ir.IRBuilder, bits: Value) -> Value:
    """Returns how many bits of its first byte and after were taken of a register."""
    return call(b, "llvm.cttz.i64", I64, [bits, ir.Constant(ir.IntType(1), 1)])


def _advance(b: ir.IRBuilder, place: Value, bits: Value) -> Value:
    return b.add(b.and_(place, _number(-8)), _taken(b, bits))


def _is_positive(b: ir.IRBuilder) -> Callable[[Sequence[Value]], Value]:
    return lambda carried: b.icmp_signed(">", carried[0], _number(0))


def _plane_decoder(lanes: int) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        source, entries, out = args.address(0), args.address(1), args.address(4)
        table = add(builder, entries, 8 << PLANE_BITS)
        states = args.address(2, args.integer(3), 16)
        _emit_plane(builder, lanes, (source, table, states, out), args.integer(5))
        return context.get_dummy_value()

    @intrinsic
    def decode_rounds(_context, source, entries, places, first, out, rounds):
        """Takes ``rounds`` times four look-ups for each lane from ``places[first]`` on.

        ``places``: (lanes, 2) int64, updated: the next bit of ``source`` and the next index of
        ``out``. A round takes up to 48 bits and 24 symbols of a lane, and may write 2 bytes more.
        """
        return types.void(source, entries, places, first, out, rounds), generate

    return decode_rounds


def _emit_plane(b: ir.IRBuilder, lanes: int, addresses: tuple[Value, ...], rounds: Value) -> None:
    source, table, states, out = addresses
    rows = range(lanes)
    places = [load(b, I64, add(b, states, 16 * lane)) for lane in rows]
    outs = [b.add(out, load(b, I64, add(b, states, 16 * lane + 8))) for lane in rows]
    loop = open_loop(b, [rounds, *places, *outs], _is_positive(b))
    left, *rest = loop.carried
    places, outs = rest[:lanes], rest[lanes:]
    bits = [_fill(b, source, place) for place in places]
    for _ in range(PLANE_ROUND):
        for lane in rows:
            index = b.lshr(bits[lane], _number(64 - PLANE_BITS))
            entry = load(b, I64, b.add(table, b.shl(index, _number(3))))
            store(b, entry, outs[lane])
            taken = b.and_(b.lshr(entry, _number(48)), _number(63))
            bits[lane] = b.shl(bits[lane], taken)
            outs[lane] = b.add(outs[lane], b.lshr(entry, _number(56)))
    places = [_advance(b, place, taken) for place, taken in zip(places, bits, strict=True)]
    loop.close([add(b, left, -1), *places, *outs])
    for lane, (place, end) in enumerate(
        zip(loop.carried[1 : lanes + 1], loop.carried[lanes + 1 :], strict=True)
    ):
        store(b, place, add(b, states, 16 * lane))
        store(b, b.sub(end, out), add(b, states, 16 * lane + 8))


decode_four_lanes = _plane_decoder(PLANE_LANES)
decode_one_lane = _plane_decoder(1)


def _decode_rows(_context, source, entries, places, contexts, out, begin, rounds):
    """Takes ``rounds`` times five look-ups for each of eight lanes; writes what was found to
    ``out[begin:]``, uint16.

    ``entries``: (rows, 2048) uint16. ``places``: (8,) int64, updated: the next bit of ``source``
    for each lane. ``contexts``: (n,) uint8 below rows, from the same place on.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        begin = args.integer(5)
        addresses = [args.address(index) for index in range(3)]
        addresses += [args.address(3, begin), args.address(4, begin, 2)]
        _emit_rows(builder, addresses, args.integer(6))
        return context.get_dummy_value()

    return types.void(source, entries, places, contexts, out, begin, rounds), generate


decode_rows: Any = intrinsic(_decode_rows)


def _decode_row(_context, source, entries, places, out, begin, rounds):
    """Like ``decode_rows`` where all symbols have one row: ``entries`` (2048,) uint16."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        addresses = [args.address(index) for index in range(3)]
        addresses += [_number(0), args.address(3, args.integer(4), 2)]
        _emit_rows(builder, addresses, args.integer(5), has_contexts=False)
        return context.get_dummy_value()

    return types.void(source, entries, places, out, begin, rounds), generate


decode_row: Any = intrinsic(_decode_row)


def _emit_rows(
    b: ir.IRBuilder, addresses: Sequence[Value], rounds: Value, has_contexts: bool = True
) -> None:
    source, table, states, contexts, out = addresses
    lanes = range(ROW_LANES)
    first = [load(b, I64, add(b, states, 8 * lane)) for lane in lanes]
    loop = open_loop(b, [rounds, contexts, out, *first], _is_positive(b))
    left, context, end, *places = loop.carried
    bits = [_fill(b, source, place) for place in places]
    for step in range(ROW_ROUND):
        for lane in lanes:
            at = ROW_LANES * step + lane
            if has_contexts:
                row = b.zext(load(b, I8, add(b, context, at)), I64)
                index = call(b, "llvm.fshl.i64", I64, [row, bits[lane], _number(ROW_BITS)])
            else:
                index = b.lshr(bits[lane], _number(64 - ROW_BITS))
            entry = load(b, I16, b.add(table, b.shl(index, _number(1))))
            store(b, entry, add(b, end, 2 * at))
            taken = b.and_(b.zext(entry, I64), _number(63))
            bits[lane] = b.shl(bits[lane], taken)
    places = [_advance(b, place, taken) for place, taken in zip(places, bits, strict=True)]
    size = ROW_LANES * ROW_ROUND
    loop.close([add(b, left, -1), add(b, context, size), add(b, end, 2 * size), *places])
    for lane, place in enumerate(loop.carried[3:]):
        store(b, place, add(b, states, 8 * lane))


def _store_bits(_context, out, at, bits):
    """Stores 64 ``bits`` at ``out[at:at + 8]``, the highest byte first."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        word = call(builder, "llvm.bswap.i64", I64, [args.integer(2)])
        store(builder, word, args.address(0, args.integer(1)))
        return context.get_dummy_value()

    return types.void(out, at, bits), generate


store_bits: Any = intrinsic(_store_bits)


def _lowest_bit(_context, word):
    """Returns the number of zeros below the lowest one of ``word``, which is not 0."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        args = IntrinsicCall(context, builder, signature.args, values)
        return _taken(builder, args.integer(0))

    return types.int64(word), generate


lowest_bit: Any = intrinsic(_lowest_bit)

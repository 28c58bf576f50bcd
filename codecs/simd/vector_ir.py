"""Builds LLVM vector code for the entropy coder's inner loops, for any vector width.

Numba has no vector type, so the loops that hold the coder's lanes in registers are emitted as
LLVM IR through intrinsics. What differs between instruction sets (gather, the placing of words
under a mask) comes from a ``VectorSet``; the loops are written once, in terms of it.

The loops check nothing but the room left for words; ``rans_kernels`` documents their sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
POINTER = ir.PointerType()
LANES = 64
Value = Any


class VectorSet(Protocol):
    """What an instruction set brings: the number of 32-bit lanes of a vector, and six operations.

    ``gather(b, table, index)``: 32-bit ``table[index]`` per lane. ``expand(b, words, chosen,
    bits)``: spreads the first of the 32-bit ``words`` over the chosen lanes, in order.
    ``choose(b, mask, one, other)``: the bits of ``one`` where those of the mask are set.
    ``expand_bytes(b, address, chosen)``: does that with bytes, over twice as many 16-bit lanes;
    also returns their number (i64). ``refill(b, x, words, chosen, bits)``: appends the first words,
    of 16 bits each, to the chosen lanes of ``x``.
    ``store_down(b, words, chosen, bits, count, end)``: stores the chosen lanes' low 16 bits, in
    order, so that they end at address ``end``.
    """

    width: int

    def gather(self, b: ir.IRBuilder, table: Value, index: Value) -> Value: ...
    def expand(self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value) -> Value: ...
    def choose(self, b: ir.IRBuilder, mask: Value, one: Value, other: Value) -> Value: ...
    def expand_bytes(
        self, b: ir.IRBuilder, address: Value, chosen: Value
    ) -> tuple[Value, Value]: ...
    def refill(
        self, b: ir.IRBuilder, x: Value, words: Value, chosen: Value, bits: Value
    ) -> Value: ...
    def store_down(
        self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value, count: Value, end: Value
    ) -> None: ...


def vector(element: ir.Type, width: int) -> ir.VectorType:
    """Returns the type of ``width`` elements."""
    return ir.VectorType(element, width)


def splat(like: Value, number: int) -> ir.Constant:
    """Returns a constant of the vector type of ``like`` with ``number`` in every lane."""
    return ir.Constant(like.type, [number] * like.type.count)


def load(b: ir.IRBuilder, kind: ir.Type, address: Value) -> Value:
    """Loads a ``kind`` from an integer address, whatever its alignment."""
    return b.load(b.inttoptr(address, POINTER), align=1, typ=kind)


def store(b: ir.IRBuilder, value: Value, address: Value) -> None:
    """Stores ``value`` at an integer address, whatever its alignment."""
    b.store(value, b.inttoptr(address, POINTER), align=1)


def add(b: ir.IRBuilder, address: Value, count: int) -> Value:
    """Returns the 64-bit integer ``address + count``."""
    return b.add(address, ir.Constant(I64, count))


def call(b: Any, name: str, result: ir.Type, arguments: Sequence[Value]) -> Value:
    """Calls the LLVM intrinsic ``name``."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = b.module.globals.get(name) or ir.Function(b.module, kind, name)
    return b.call(function, arguments)


def broadcast(b: Any, scalar: Value, width: int) -> Value:
    """Returns a vector with ``scalar`` in each of ``width`` lanes."""
    kind = vector(scalar.type, width)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    places = ir.Constant(vector(I32, width), [0] * width)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


def halve(b: Any, value: Value) -> tuple[Value, Value]:
    """Returns the first and the second half of the lanes of ``value``."""
    count = value.type.count // 2
    places = (list(range(begin, begin + count)) for begin in (0, count))
    lower, upper = (ir.Constant(vector(I32, count), place) for place in places)
    return b.shuffle_vector(value, value, lower), b.shuffle_vector(value, value, upper)


def pin(b: Any, value: Value) -> Value:
    """Returns ``value``, worked out before any value that is pinned later.

    Left alone, LLVM puts off what only the next round of a loop needs, and spills all that it is
    made of.
    """
    kind = ir.FunctionType(value.type, [value.type])
    return b.asm(kind, "", "=v,0", [value], side_effect=True)


def mask_bits(b: Any, chosen: Value) -> tuple[Value, Value]:
    """Returns a mask of booleans as an integer of as many bits, and the number of lanes it
    chooses (i64).
    """
    bits = b.bitcast(chosen, ir.IntType(chosen.type.count))
    count = call(b, f"llvm.ctpop.i{chosen.type.count}", bits.type, [bits])
    return bits, b.zext(count, I64)


@dataclass(slots=True)
class Loop:
    """A counted loop whose carried values live in registers; ``close`` ends its body."""

    builder: ir.IRBuilder
    head: Any
    carried: list[Any]
    exit: Any

    def close(self, values: Sequence[Value]) -> None:
        """Branches back with the next ``values``, then continues after the loop."""
        for phi, value in zip(self.carried, values, strict=True):
            phi.add_incoming(value, self.builder.block)
        self.builder.branch(self.head)
        self.builder.position_at_end(self.exit)


def open_loop(b: ir.IRBuilder, initial: Sequence[Value], keep_going: Any) -> Loop:
    """Opens ``while keep_going(carried)``; the builder is left at the start of the body.

    After ``close``, ``carried`` holds the final values.
    """
    b.function.attributes.alignstack = 64
    b.function.attributes.add("nounwind")
    before = b.block
    head, body, leave = (b.append_basic_block(name) for name in ("head", "body", "leave"))
    b.branch(head)
    b.position_at_end(head)
    carried = [b.phi(value.type) for value in initial]
    for phi, value in zip(carried, initial, strict=True):
        phi.add_incoming(value, before)
    b.cbranch(keep_going(carried), body, leave)
    b.position_at_end(body)
    return Loop(b, head, carried, leave)


def load_states(b: ir.IRBuilder, vectors: VectorSet, states: Value) -> list[Value]:
    """Loads the 64 states at address ``states`` into vectors."""
    kind = vector(I32, vectors.width)
    return [load(b, kind, add(b, states, 4 * lane)) for lane in range(0, LANES, vectors.width)]


def store_states(b: ir.IRBuilder, values: Sequence[Value], states: Value) -> None:
    """Stores vectors of states back; mirrors ``load_states``."""
    for index, value in enumerate(values):
        store(b, value, add(b, states, 4 * index * value.type.count))

"""The vector loop that restores 16-bit elements from their base, per instruction set.

It is the entropy decoder of ``simd.vector_rans`` with another beginning and end: the context comes
from the base and the scales, and the symbol is turned into the element before it leaves its
register. On a machine without the instructions it compiles to nothing and reports no step done.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..simd import vector_rans
from ..simd.calls import IntrinsicCall
from ..simd.paths import available_paths
from ..simd.vector_ir import (
    I8,
    I16,
    I32,
    I64,
    Value,
    VectorSet,
    add,
    broadcast,
    halve,
    load,
    mask_bits,
    open_loop,
    splat,
    store,
    vector,
)
from ..simd.vector_sets import Avx2, Avx512

_SPEC = ("shift", "mask", "origin", "top", "low_bits", "low_mask", "limit", "reach", "xored")
"""The names of what ``difference_kernels`` keeps in ``spec``, in its order."""


class ElementSink:
    """Takes contexts from base and scales, and stores elements; see ``difference_kernels``.

    Two vectors of states at a time share one of 16-bit lanes, which is what the elements are made
    of. ``plain``: nothing is XORed, and no low bits are part of the context. ``addresses``: of the
    base, of a scale per element, and of the elements. ``taken``: an address on the stack that
    holds the address of the next lower byte: LLVM keeps it in a register.
    """

    def __init__(
        self, vectors: VectorSet, plain: bool, addresses: Sequence[Value], spec: Any, taken: Value
    ) -> None:
        self.vectors, self.plain, self.spec, self.taken = vectors, plain, spec, taken
        self.base, self.scales, self.out = addresses
        self.words: Value = None

    def index(self, b: ir.IRBuilder, slots: Sequence[Value], position: Value) -> Sequence[Value]:
        """Returns the place of each lane's entry in the table of its context."""
        count = 2 * self.vectors.width
        double = b.shl(position, ir.Constant(I64, 1))
        self.words = load(b, vector(I16, count), b.add(self.base, double))
        scales = load(b, vector(I8, count), b.add(self.scales, position))
        halves = halve(b, emit_contexts(b, self.spec, self.plain, self.words, scales))
        tables = [b.shl(b.zext(half, slots[0].type), splat(slots[0], 12)) for half in halves]
        return [b.or_(slot, table) for slot, table in zip(slots, tables, strict=True)]

    def put(self, b: ir.IRBuilder, symbols: Value, position: Value) -> None:
        """Stores the elements that ``symbols``, see ``vector_rans.Found``, stand for."""
        s, a = self.spec, self.words
        symbol = b.lshr(symbols, splat(symbols, 8))
        near = b.sub(b.add(a, symbol), s["limit"])
        if not self.plain:
            near = b.select(s["xored"], b.xor(a, symbol), near)
        is_wide = b.icmp_signed(">=", symbol, s["first_wide"])
        lower = b.add(self._take_lower(b, is_wide), s["lowest"])
        # The symbol times 0x8080: its upper bits count in the upper byte, its lowest flips the
        # sign.
        turned = b.add(b.shl(symbol, splat(a, 7)), b.shl(symbol, splat(a, 15)))
        far = b.add(b.add(b.and_(a, splat(a, 0xFF00)), turned), lower)
        word = b.select(is_wide, far, near)
        store(b, word, b.add(self.out, b.shl(position, ir.Constant(I64, 1))))

    def _take_lower(self, b: ir.IRBuilder, chosen: Value) -> Value:
        at = b.load(self.taken, typ=I64)
        lower, count = self.vectors.expand_bytes(b, at, chosen)
        b.store(b.add(at, count), self.taken)
        return lower


def emit_contexts(b: ir.IRBuilder, s: Any, plain: bool, a: Value, scales: Value) -> Value:
    """Returns the contexts of the elements whose bases are ``a``, in 16-bit lanes."""
    exponent = b.and_(b.lshr(a, s["shift"]), s["mask"])
    context = b.sub(b.add(exponent, s["origin"]), b.zext(scales, a.type))
    zero = splat(a, 0)
    context = b.select(b.icmp_signed("<", context, zero), zero, context)
    context = b.select(b.icmp_signed(">", context, s["top"]), s["top"], context)
    if plain:
        return context
    return b.or_(b.shl(context, s["low_bits"]), b.and_(a, s["low_mask"]))


def load_spec(b: ir.IRBuilder, address: Value, width: int) -> dict[str, Value]:
    """Loads ``spec`` and spreads each number, modulo 2^16, over ``width`` 16-bit lanes."""
    spec = {}
    for place, name in enumerate(_SPEC):
        number = b.trunc(load(b, I32, add(b, address, 4 * place)), I16)
        spec[name] = broadcast(b, number, width)
    one = splat(spec["limit"], 1)
    spec["first_wide"] = b.add(b.shl(spec["limit"], one), one)
    moved = b.add(
        b.mul(spec["first_wide"], splat(one, 0x8080)), b.shl(spec["reach"], splat(one, 8))
    )
    spec["lowest"] = b.sub(splat(one, 0), moved)
    spec["xored"] = b.icmp_signed("!=", spec["xored"], splat(one, 0))
    return spec


def _restorer(path: str, vectors: VectorSet, plain: bool) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        at, done, used = call.integer(1), ir.Constant(I64, 0), ir.Constant(I64, 0)
        if path in available_paths():
            source, lower = call.address(0), call.address(8, call.integer(9))
            taken = cgutils.alloca_once_value(builder, lower)
            spec = load_spec(builder, call.address(7), 2 * vectors.width)
            addresses = [call.address(index) for index in (5, 6, 10)]
            sink = ElementSink(vectors, plain, addresses, spec, taken)
            words = builder.add(source, at), builder.add(source, call.length(0))
            look_up = vector_rans.Gathered(vectors, call.address(2), sink)
            stream = vector_rans.Stream(*words, call.address(3), look_up, sink)
            (at,), done = vector_rans.emit_decode(builder, vectors, [stream], call.integer(4))
            at = builder.sub(at, source)
            used = builder.sub(builder.load(taken, typ=I64), lower)
        return context.make_tuple(builder, signature.return_type, (at, done, used))

    @intrinsic
    def restore_steps(
        _context, source, at, slots, states, steps, base, scales, spec, lower, taken, out
    ):
        """Restores up to ``steps`` steps from the front of ``out``, with ``lower[taken:]``.

        Returns where in ``source`` the next word is, the number of steps done, and how many lower
        bytes were taken.
        """
        result = types.UniTuple(types.int64, 3)
        arguments = (source, at, slots, states, steps, base, scales, spec, lower, taken, out)
        return result(*arguments), generate

    return restore_steps


restore_avx2 = _restorer("avx2", Avx2(), plain=False)
restore_avx512 = _restorer("avx512", Avx512(), plain=False)
restore_plain_avx2 = _restorer("avx2", Avx2(), plain=True)
restore_plain_avx512 = _restorer("avx512", Avx512(), plain=True)


def _classifier(path: str, vectors: VectorSet, plain: bool) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        stored, missed = ir.Constant(I64, 0), ir.Constant(I64, 0)
        if path in available_paths():
            spec = load_spec(builder, call.address(3), 2 * vectors.width)
            sources = [call.address(index) for index in range(3)]
            results = [call.address(index) for index in (5, 6, 7)]
            stored, missed = _emit_classify(
                builder, 2 * vectors.width, plain, spec, sources, results, call.integer(4)
            )
        return context.make_tuple(builder, signature.return_type, (stored, missed))

    @intrinsic
    def classify_steps(_context, target, base, scales, spec, steps, symbols, contexts, places):
        """Writes symbol, context and both as one of the first ``steps`` times 32 elements.

        Returns how many of them store a byte, and how many are out of reach.
        """
        arguments = (target, base, scales, spec, steps, symbols, contexts, places)
        return types.UniTuple(types.int64, 2)(*arguments), generate

    return classify_steps


def _emit_classify(
    b: ir.IRBuilder,
    lanes: int,
    plain: bool,
    s: Any,
    sources: Sequence[Value],
    results: Sequence[Value],
    steps: Value,
) -> tuple[Value, Value]:
    zero = ir.Constant(I64, 0)
    end = b.mul(steps, ir.Constant(I64, 32))
    loop = open_loop(b, [zero, zero, zero], lambda carried: b.icmp_signed("<", carried[0], end))
    position, stored, missed = loop.carried
    double = b.shl(position, ir.Constant(I64, 1))
    target, a = (load(b, vector(I16, lanes), b.add(source, double)) for source in sources[:2])
    scales = load(b, vector(I8, lanes), b.add(sources[2], position))
    context = emit_contexts(b, s, plain, a, scales)
    near, still = b.add(b.sub(target, a), s["limit"]), s["limit"]
    if not plain:
        near = b.select(s["xored"], b.xor(a, target), near)
        still = b.select(s["xored"], splat(a, 0), still)
    is_near = b.icmp_unsigned("<", near, s["first_wide"])
    reach = b.shl(s["reach"], splat(a, 8))
    room = b.add(b.shl(reach, splat(a, 1)), splat(a, 256))
    same = b.add(b.sub(target, b.and_(a, splat(a, 0xFF00))), reach)
    is_turned = b.icmp_unsigned(">=", same, room)
    left = b.select(is_turned, b.sub(same, splat(a, 0x8080)), same)
    is_reached = b.icmp_unsigned("<", left, room)
    wide = b.add(b.shl(b.lshr(left, splat(a, 8)), splat(a, 1)), s["first_wide"])
    wide = b.add(wide, b.zext(is_turned, a.type))
    symbol = b.select(is_near, near, b.select(is_reached, wide, still))
    narrow = vector(I8, lanes)
    store(b, b.trunc(symbol, narrow), b.add(results[0], position))
    store(b, b.trunc(context, narrow), b.add(results[1], position))
    store(b, b.or_(b.shl(context, splat(a, 8)), symbol), b.add(results[2], double))
    is_far = b.not_(is_near)
    _, more = mask_bits(b, b.and_(is_far, is_reached))
    _, fewer = mask_bits(b, b.and_(is_far, b.not_(is_reached)))
    loop.close([add(b, position, lanes), b.add(stored, more), b.add(missed, fewer)])
    return loop.carried[1], loop.carried[2]


classify_avx2 = _classifier("avx2", Avx2(), plain=False)
classify_avx512 = _classifier("avx512", Avx512(), plain=False)
classify_plain_avx2 = _classifier("avx2", Avx2(), plain=True)
classify_plain_avx512 = _classifier("avx512", Avx512(), plain=True)


def _picker(path: str, vectors: VectorSet) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        at = call.integer(5)
        if path in available_paths():
            first = broadcast(builder, builder.trunc(call.integer(2), I32), vectors.width)
            sources = call.address(0), call.address(1)
            end = call.address(4, at, 2)
            end = _emit_pick(builder, vectors, sources, first, call.integer(3), end)
            at = builder.sdiv(builder.sub(end, call.address(4)), ir.Constant(I64, 2))
        return at

    @intrinsic
    def pick_steps(_context, target, symbols, first, steps, out, at):
        """Stores what the wide symbols of the first ``steps`` vectors of 16 leave over, below
        ``out[at]``.

        Returns where they begin.
        """
        return types.int64(target, symbols, first, steps, out, at), generate

    return pick_steps


def _emit_pick(
    b: ir.IRBuilder,
    vectors: VectorSet,
    sources: tuple[Value, Value],
    first: Value,
    steps: Value,
    end: Value,
) -> Value:
    target, symbols = sources
    zero = ir.Constant(I64, 0)
    loop = open_loop(b, [end, steps], lambda carried: b.icmp_signed(">", carried[1], zero))
    end, step = loop.carried
    step = add(b, step, -1)
    for index in range(16 // vectors.width - 1, -1, -1):
        position = add(b, b.mul(step, ir.Constant(I64, 16)), index * vectors.width)
        symbol = load(b, vector(I8, vectors.width), b.add(symbols, position))
        wide = b.sub(b.zext(symbol, first.type), first)
        word = load(
            b, vector(I16, vectors.width), b.add(target, b.shl(position, ir.Constant(I64, 1)))
        )
        odd = b.shl(b.and_(wide, splat(wide, 1)), splat(wide, 7))
        chosen = b.icmp_signed(">=", wide, splat(wide, 0))
        bits, count = mask_bits(b, chosen)
        vectors.store_down(b, b.sub(b.zext(word, first.type), odd), chosen, bits, count, end)
        end = b.sub(end, b.shl(count, ir.Constant(I64, 1)))
    loop.close([end, step])
    return loop.carried[0]


pick_avx2 = _picker("avx2", Avx2())
pick_avx512 = _picker("avx512", Avx512())

"""The vector loops around prefix codes of 16-bit elements.

Numba works out sums of 16-bit numbers in 64 bits, a quarter as many to a register. These loops are
of vectors that LLVM cuts to what the processor has. Only for spreading the bytes that wide symbols
take is an instruction set asked for; without, such elements are left to a plain loop.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..simd.calls import IntrinsicCall
from ..simd.paths import available_paths
from ..simd.vector_ir import (
    I8,
    I16,
    I32,
    I64,
    VectorSet,
    add,
    load,
    open_loop,
    splat,
    store,
    vector,
)
from ..simd.vector_sets import Avx2, Avx512
from .difference_steps import ElementSink, emit_contexts, load_spec

STEP = 32
"""Elements of one round."""


def _count_down(b: ir.IRBuilder) -> Any:
    return lambda carried: b.icmp_signed(">", carried[0], ir.Constant(I64, 0))


def _find_contexts(_context, base, scales, spec, steps, contexts):
    """Writes the contexts of the first ``steps`` times 32 elements to ``contexts`` uint8.

    ``base``, ``scales``, ``spec``: see ``difference_kernels``; the origin is at most MOST_ORIGIN.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        addresses = [call.address(index) for index in (0, 1, 4)]
        spec = load_spec(builder, call.address(2), STEP)
        loop = open_loop(builder, [call.integer(3), *addresses], _count_down(builder))
        left, base, scales, out = loop.carried
        words = load(builder, vector(I16, STEP), base)
        moved = load(builder, vector(I8, STEP), scales)
        found = emit_contexts(builder, spec, False, words, moved)
        store(builder, builder.trunc(found, vector(I8, STEP)), out)
        step = [add(builder, place, STEP) for place in (scales, out)]
        loop.close([add(builder, left, -1), add(builder, base, 2 * STEP), *step])
        return context.get_dummy_value()

    return types.void(base, scales, spec, steps, contexts), generate


find_contexts: Any = intrinsic(_find_contexts)


def _place_near(_context, base, symbols, spec, steps, out, wide):
    """Writes the elements of the near symbols among the first ``steps`` times 32, and something
    for the others, of which it sets the bits in ``wide`` (steps,) uint32. ``symbols``: uint16, in
    the upper bytes.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        addresses = [call.address(index) for index in (0, 1, 4, 5)]
        spec = load_spec(builder, call.address(2), STEP)
        loop = open_loop(builder, [call.integer(3), *addresses], _count_down(builder))
        left, base, symbols, out, wide = loop.carried
        words = load(builder, vector(I16, STEP), base)
        symbol = load(builder, words.type, symbols)
        symbol = builder.lshr(symbol, splat(symbol, 8))
        near = builder.sub(builder.add(words, symbol), spec["limit"])
        near = builder.select(spec["xored"], builder.xor(words, symbol), near)
        store(builder, near, out)
        is_wide = builder.icmp_signed(">=", symbol, spec["first_wide"])
        store(builder, builder.bitcast(is_wide, I32), wide)
        step = [add(builder, place, 2 * STEP) for place in (base, symbols, out)]
        loop.close([add(builder, left, -1), *step, add(builder, wide, 4)])
        return context.get_dummy_value()

    return types.void(base, symbols, spec, steps, out, wide), generate


place_near: Any = intrinsic(_place_near)


def _placer(path: str, vectors: VectorSet) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        used = ir.Constant(I64, 0)
        if path in available_paths():
            lower = call.address(4, call.integer(5))
            taken = cgutils.alloca_once_value(builder, lower)
            spec = load_spec(builder, call.address(2), 2 * vectors.width)
            base, found, out = (call.address(index) for index in (0, 1, 6))
            sink = ElementSink(vectors, False, (base, base, out), spec, taken)
            _emit_place(builder, sink, base, found, call.integer(3))
            used = builder.sub(builder.load(taken, typ=I64), lower)
        return used

    @intrinsic
    def place(_context, base, symbols, spec, steps, lower, taken, out):
        """Writes the first ``steps`` times 32 elements, the wide ones with ``lower[taken:]``;
        returns how many bytes of it they took.

        ``symbols``: see ``place_near``. ``lower``: see ``difference_kernels.restore_kernel``.
        """
        return types.int64(base, symbols, spec, steps, lower, taken, out), generate

    return place


def _emit_place(b: ir.IRBuilder, sink: ElementSink, base: Any, found: Any, steps: Any) -> None:
    lanes = 2 * sink.vectors.width
    loop = open_loop(b, [steps, ir.Constant(I64, 0)], _count_down(b))
    left, position = loop.carried
    for first in range(0, STEP, lanes):
        place = add(b, position, first)
        double = b.shl(place, ir.Constant(I64, 1))
        sink.words = load(b, vector(I16, lanes), b.add(base, double))
        sink.put(b, load(b, vector(I16, lanes), b.add(found, double)), place)
    loop.close([add(b, left, -1), add(b, position, STEP)])


place_avx2 = _placer("avx2", Avx2())
place_avx512 = _placer("avx512", Avx512())

"""The vector loops as functions that Numba code can call, one set per instruction set.

On a machine without the instructions they compile to nothing and report no step done, so that the
kernels that name them compile everywhere.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..simd import vector_ports, vector_rans
from ..simd.calls import IntrinsicCall
from ..simd.paths import available_paths
from ..simd.vector_ir import I64, VectorSet
from ..simd.vector_sets import Avx2, Avx512


def _decoder(
    path: str,
    vectors: VectorSet,
    make_sink: Callable[[IntrinsicCall, VectorSet, Any], Any],
    is_folded: bool = False,
) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        at, done = call.integer(1), ir.Constant(I64, 0)
        if path in available_paths():
            source = call.address(0)
            words = builder.add(source, at), builder.add(source, call.length(0))
            sink, slots = make_sink(call, vectors, call.integer(4)), call.address(2)
            if is_folded:
                look_up: Any = vector_rans.Folded(builder, vectors, slots)
            else:
                look_up = vector_rans.Gathered(vectors, slots, sink)
            stream = vector_rans.Stream(*words, call.address(3), look_up, sink)
            (at,), done = vector_rans.emit_decode(builder, vectors, [stream], call.integer(5))
            at = builder.sub(at, source)
        return context.make_tuple(builder, signature.return_type, (at, done))

    @intrinsic
    def decode_steps(_context, source, at, slots, states, begin, steps, out, side):
        """Decodes up to ``steps`` steps into ``out[begin:]``.

        Returns where in ``source`` the next word is and the number of steps done.
        """
        result = types.UniTuple(types.int64, 2)
        return result(source, at, slots, states, begin, steps, out, side), generate

    return decode_steps


def _two_pairs(vectors: VectorSet) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        ends, done = [call.integer(1), call.integer(7)], ir.Constant(I64, 0)
        if "avx512" in available_paths():
            begin, sources = call.integer(12), [call.address(0), call.address(6)]
            streams = []
            for source, at, first in zip(sources, ends, (0, 6), strict=True):
                places = call.address(first + 5, begin, 2), call.address(first + 4, begin)
                sink = vector_ports.PairSink(vectors, *places)
                look_up = vector_rans.Folded(builder, vectors, call.address(first + 2))
                words = builder.add(source, at), builder.add(source, call.length(first))
                states = call.address(first + 3)
                streams.append(vector_rans.Stream(*words, states, look_up, sink))
            ends, done = vector_rans.emit_decode(builder, vectors, streams, call.integer(13))
            ends = [builder.sub(at, source) for at, source in zip(ends, sources, strict=True)]
        return context.make_tuple(builder, signature.return_type, (*ends, done))

    @intrinsic
    def decode_steps(
        _context,
        source,
        at,
        slots,
        states,
        low,
        out,
        source2,
        at2,
        slots2,
        states2,
        low2,
        out2,
        begin,
        steps,
    ):
        """Decodes up to ``steps`` steps of two streams into ``out[begin:]`` of each.

        Returns where in each source the next word is and the number of steps done.
        """
        first = source, at, slots, states, low, out
        second = source2, at2, slots2, states2, low2, out2
        result = types.UniTuple(types.int64, 3)
        return result(*first, *second, begin, steps), generate

    return decode_steps


def _encoder(
    path: str, vectors: VectorSet, make_source: Callable[[IntrinsicCall, Any], Any]
) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        call = IntrinsicCall(context, builder, signature.args, values)
        at = call.integer(6)
        if path in available_paths():
            end = call.address(5, at, 2)
            source = make_source(call, call.integer(1))
            end = vector_rans.emit_encode(
                builder, vectors, source, call.address(3), call.address(4), end, call.integer(2)
            )
            at = builder.sdiv(builder.sub(end, call.address(5)), ir.Constant(I64, 2))
        return at

    @intrinsic
    def encode_steps(_context, symbols, begin, steps, starts, states, words, at, side):
        """Encodes ``steps`` steps of ``symbols[begin:]`` backwards below ``words[at]``.

        Returns where the words begin.
        """
        return types.int64(symbols, begin, steps, starts, states, words, at, side), generate

    return encode_steps


def _plane_sink(call: IntrinsicCall, vectors: VectorSet, begin: Any) -> Any:
    del vectors
    return vector_ports.PlaneSink(call.address(6, begin))


def _context_sink(call: IntrinsicCall, vectors: VectorSet, begin: Any) -> Any:
    del vectors
    return vector_ports.ContextSink(call.address(6, begin), call.address(7, begin))


def _pair_sink(call: IntrinsicCall, vectors: VectorSet, begin: Any) -> Any:
    return vector_ports.PairSink(vectors, call.address(6, begin, 2), call.address(7, begin))


def _plane_source(call: IntrinsicCall, begin: Any) -> Any:
    return vector_ports.PlaneSource(call.address(0, begin))


def _folded_source(call: IntrinsicCall, begin: Any) -> Any:
    return vector_ports.FoldedSource(call.builder, call.address(0, begin), call.address(3))


def _context_source(call: IntrinsicCall, begin: Any) -> Any:
    return vector_ports.ContextSource(call.address(0, begin), call.address(7, begin))


decode_plane_avx2 = _decoder("avx2", Avx2(), _plane_sink)
decode_plane_avx512 = _decoder("avx512", Avx512(), _plane_sink)
decode_plane_folded = _decoder("avx512", Avx512(), _plane_sink, is_folded=True)
decode_pair_folded = _decoder("avx512", Avx512(), _pair_sink, is_folded=True)
decode_two_pairs_folded = _two_pairs(Avx512())
decode_context_avx2 = _decoder("avx2", Avx2(), _context_sink)
decode_context_avx512 = _decoder("avx512", Avx512(), _context_sink)
decode_pair_avx2 = _decoder("avx2", Avx2(), _pair_sink)
decode_pair_avx512 = _decoder("avx512", Avx512(), _pair_sink)
encode_plane_avx2 = _encoder("avx2", Avx2(), _plane_source)
encode_plane_avx512 = _encoder("avx512", Avx512(), _plane_source)
encode_folded_avx512 = _encoder("avx512", Avx512(), _folded_source)
encode_context_avx2 = _encoder("avx2", Avx2(), _context_source)
encode_context_avx512 = _encoder("avx512", Avx512(), _context_source)

"""The vector loops of the entropy coder: 64 lanes a step, in registers (FORMAT.md, "rANS").

Each emitter writes one loop. Addresses and counts are 64-bit integers. Every loop gives exactly
what the plain loops of ``rans_scalar`` give for the same steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from llvmlite import ir

from .vector_ir import (
    I8,
    I16,
    I32,
    I64,
    LANES,
    Value,
    VectorSet,
    add,
    call,
    load,
    load_states,
    mask_bits,
    open_loop,
    pin,
    splat,
    store_states,
    vector,
)

READ_AHEAD_BYTES = 2 * LANES + 32
"""A decoding step consumes at most one word per lane, and loads one vector of words beyond that."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One coded stream, seen from the loop that decodes it.

    ``begin``, ``end``: addresses of its first word and of the end of its words. ``states``:
    address of (64,) uint32. ``look_up``: finds the entries of a vector of states. ``sink``: takes
    them, two vectors at a time.
    """

    begin: Value
    end: Value
    states: Value
    look_up: Any
    sink: Any


def emit_decode(
    b: ir.IRBuilder, vectors: VectorSet, streams: Sequence[Stream], steps: Value
) -> tuple[list[Value], Value]:
    """Emits the decoder: up to ``steps`` steps of every stream, while words of none may run out.

    A step of one stream waits most of its time for its own results; two streams side by side fill
    each other's gaps (BF16 in cache, Zen 5: 7000 MB/s, two 10900). Returns for each the address of
    the next word, and the number of steps done.
    """
    limits = [add(b, stream.end, -READ_AHEAD_BYTES) for stream in streams]
    lanes = [load_states(b, vectors, stream.states) for stream in streams]

    def keep_going(carried: list[Value]) -> Value:
        go = b.icmp_signed("<", carried[0], steps)
        for at, limit in zip(carried[1:], limits, strict=False):
            go = b.and_(go, b.icmp_signed("<=", at, limit))
        return go

    begins = [stream.begin for stream in streams]
    loop = open_loop(b, [ir.Constant(I64, 0), *begins, *chain(*lanes)], keep_going)
    step, *rest = loop.carried
    ends, states = rest[: len(streams)], rest[len(streams) :]
    first = b.mul(step, ir.Constant(I64, LANES))
    groups = LANES // vectors.width
    decoders = []
    for index, stream in enumerate(streams):
        own = states[index * groups : (index + 1) * groups]
        decoders.append(_Decoder(b, vectors, stream, ends[index], own))
    for index in range(0, groups, 2):
        for decoder in decoders:
            decoder.decode_pair(index, first)
    ends = [decoder.at for decoder in decoders]
    moved = list(chain(*(decoder.states for decoder in decoders)))
    loop.close([add(b, step, 1), *ends, *moved])
    done, *rest = loop.carried
    for index, stream in enumerate(streams):
        begin = len(streams) + index * groups
        store_states(b, rest[begin : begin + groups], stream.states)
    return rest[: len(streams)], done


class _Decoder:
    """Emits one step of a stream, two vectors at a time; ``at``: the address of its next word."""

    def __init__(
        self,
        b: ir.IRBuilder,
        vectors: VectorSet,
        stream: Stream,
        at: Value,
        states: Sequence[Value],
    ) -> None:
        self.b, self.vectors, self.stream = b, vectors, stream
        self.at, self.states = at, list(states)

    def decode_pair(self, index: int, first: Value) -> None:
        """Emits vectors ``index`` and the one after it, of the step that begins with element
        ``first``.
        """
        b, pair = self.b, self.states[index : index + 2]
        position = add(b, first, index * self.vectors.width)
        found = self.stream.look_up.find(b, pair, position)
        for place, x in enumerate(pair):
            advanced = self._advance(x, found.frequencies[place], found.offsets[place])
            self.states[index + place] = pin(b, advanced)
        self.stream.sink.put(b, found.symbols, position)

    def _advance(self, x: Value, frequency: Value, offset: Value) -> Value:
        b = self.b
        x = b.add(b.mul(frequency, b.lshr(x, splat(x, 12))), offset)
        chosen = b.icmp_unsigned("<", x, splat(x, 1 << 15))
        bits, count = mask_bits(b, chosen)
        words = b.zext(load(b, vector(I16, self.vectors.width), self.at), x.type)
        self.at = b.add(self.at, b.shl(count, ir.Constant(I64, 1)))
        return self.vectors.refill(b, x, words, chosen, bits)


@dataclass(frozen=True, slots=True)
class Found:
    """What the slots of two vectors of states stand for.

    ``frequencies``, ``offsets``: for each vector, the symbol's frequency and the slot's offset
    within it. ``symbols``: one vector of 16-bit lanes, in order, whose upper bytes are the
    symbols.
    """

    frequencies: Sequence[Value]
    offsets: Sequence[Value]
    symbols: Value


class Gathered:
    """Finds symbols in a table of 4096 slots, or in several."""

    def __init__(self, vectors: VectorSet, slots: Value, sink: Any) -> None:
        self.vectors, self.slots, self.sink = vectors, slots, sink

    def find(self, b: ir.IRBuilder, pair: Sequence[Value], position: Value) -> Found:
        """Returns what the slots of two vectors stand for, the first of them at ``position``."""
        low = splat(pair[0], 4095)
        slots = [b.and_(x, low) for x in pair]
        places = self.sink.index(b, slots, position)
        entries = [self.vectors.gather(b, self.slots, place) for place in places]
        offsets = [b.and_(b.lshr(entry, splat(entry, 12)), low) for entry in entries]
        return Found([b.and_(entry, low) for entry in entries], offsets, _upper_halves(b, entries))


class Folded:
    """Finds symbols in registers, by the table of ``fold_slots_kernel``.

    The slots of both vectors share the lanes of one, as 16 bits are enough for all that is looked
    up. ``table``: its address. AVX-512 alone.
    """

    def __init__(self, b: ir.IRBuilder, vectors: VectorSet, table: Value) -> None:
        self.vectors = vectors
        wide = vector(I16, 32)
        rows = [load(b, wide, add(b, table, 64 * row)) for row in range(8)]
        self.middle, self.ends = rows[:2], rows[2:4]
        self.lasts, self.frequencies, self.starts, self.symbols = rows[4:]

    def find(self, b: ir.IRBuilder, pair: Sequence[Value], position: Value) -> Found:
        """Returns what the slots of two vectors stand for."""
        del position
        one, other = pair
        kind = self.lasts.type
        lower = splat(one, 0xFFFF)
        both = b.or_(b.and_(one, lower), b.shl(other, splat(other, 16)))
        slot = b.and_(b.bitcast(both, kind), ir.Constant(kind, [4095] * 32))
        rank = self._find_rank(b, slot)
        frequency = b.bitcast(_permute(b, self.frequencies, rank), one.type)
        offset = b.bitcast(b.sub(slot, _permute(b, self.starts, rank)), one.type)
        # Lanes of both vectors by turns: even ones first, then odd ones.
        order = ir.Constant(vector(I32, 32), [*range(0, 32, 2), *range(1, 32, 2)])
        symbols = _permute(b, self.symbols, rank)
        high = splat(one, 16)
        return Found(
            [b.and_(frequency, lower), b.lshr(frequency, high)],
            [b.and_(offset, lower), b.lshr(offset, high)],
            b.shuffle_vector(symbols, symbols, order),
        )

    def _find_rank(self, b: ir.IRBuilder, slot: Value) -> Value:
        """Returns the rank of each slot's symbol in the lowest five bits of its lane."""
        bucket = b.lshr(slot, splat(slot, 5))
        rank = _permute_bytes(b, self.middle, bucket)
        # The first and last 64 slots have a place each: six bits of the slot, and its top one.
        place = self.vectors.choose(b, splat(slot, 63), slot, bucket)
        exact = _permute_bytes(b, self.ends, place)
        # Masks stay in vectors: going through mask registers makes the chain of a step longer, and
        # its length is what bounds the decoder.
        is_end = b.ashr(b.shl(rank, splat(slot, 8)), splat(slot, 15))
        rank = self.vectors.choose(b, is_end, exact, rank)
        last = _permute(b, self.lasts, rank)
        return b.add(rank, b.lshr(b.sub(last, slot), splat(slot, 15)))


def _permute(b: ir.IRBuilder, table: Value, index: Value) -> Value:
    """Returns the 16 bits of ``table`` at the lowest five bits of each lane of ``index``."""
    return call(b, "llvm.x86.avx512.permvar.hi.512", table.type, [table, index])


def _permute_bytes(b: ir.IRBuilder, halves: Sequence[Value], index: Value) -> Value:
    """Returns the bytes of two vectors at the lowest seven bits of each byte of ``index``."""
    kind = vector(I8, 64)
    low, high = (b.bitcast(half, kind) for half in halves)
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    return b.bitcast(call(b, name, kind, [low, b.bitcast(index, kind), high]), index.type)


def emit_encode(
    b: ir.IRBuilder,
    vectors: VectorSet,
    symbols: Any,
    starts: Value,
    states: Value,
    end: Value,
    steps: Value,
) -> Value:
    """Emits the encoder: ``steps`` steps from the last to the first.

    ``symbols``: gives the symbols of a vector. ``starts``: address of the (256,) uint32 table
    start << 12 | frequency. ``states``: address of (64,) uint32. ``end``: address below which
    words are stored, downwards. Returns the address of the last stored word.
    """
    zero = ir.Constant(I64, 0)
    lanes = load_states(b, vectors, states)
    loop = open_loop(b, [end, steps, *lanes], lambda carried: b.icmp_signed(">", carried[1], zero))
    end, step, *lanes = loop.carried
    step = add(b, step, -1)
    first = b.mul(step, ir.Constant(I64, LANES))
    moved = []
    for index, x in reversed(list(enumerate(lanes))):
        position = add(b, first, index * vectors.width)
        end, x = _encode_vector(b, vectors, end, starts, x, symbols, position)
        moved.insert(0, x)
    loop.close([end, step, *moved])
    store_states(b, loop.carried[2:], states)
    return loop.carried[0]


def _encode_vector(
    b: ir.IRBuilder,
    vectors: VectorSet,
    end: Value,
    starts: Value,
    x: Value,
    symbols: Any,
    position: Value,
) -> tuple[Value, Value]:
    entry = symbols.entry(b, vectors, starts, x.type, position)
    f = b.and_(entry, splat(x, 4095))
    chosen = b.icmp_unsigned(">=", x, b.shl(f, splat(x, 19)))
    bits, count = mask_bits(b, chosen)
    vectors.store_down(b, x, chosen, bits, count, end)
    x = b.select(chosen, b.lshr(x, splat(x, 16)), x)
    q = _divide(b, x, f)
    r = b.sub(x, b.mul(q, f))
    # One unit too low at most: see _divide.
    short = b.icmp_unsigned(">=", r, f)
    q = b.select(short, b.add(q, splat(q, 1)), q)
    r = b.select(short, b.sub(r, f), r)
    x = b.add(b.add(b.shl(q, splat(x, 12)), r), b.lshr(entry, splat(x, 12)))
    return b.sub(end, b.shl(count, ir.Constant(I64, 1))), x


def _divide(b: ir.IRBuilder, x: Value, f: Value) -> Value:
    """Returns x // f or one less, for x < f * 2^19 and 0 < f < 4096.

    Single precision is within 2^-24 at each of three roundings; scaling by 1 - 2^-22 first keeps
    the quotient from ever being too large, and 2^19 * (2^-22 + 3 * 2^-24) < 1 keeps it from being
    short by more than one.
    """
    kind = vector(ir.FloatType(), x.type.count)
    scale = ir.Constant(kind, [1 - 2.0**-22] * x.type.count)
    scaled = b.fmul(b.sitofp(x, kind), scale)
    return b.fptosi(b.fdiv(scaled, b.sitofp(f, kind)), x.type)


def _upper_halves(b: ir.IRBuilder, entries: Sequence[Value]) -> Value:
    """Returns the upper 16 bits of every lane of two vectors, in order, as one vector."""
    count = 2 * entries[0].type.count
    one, other = (b.bitcast(entry, vector(I16, count)) for entry in entries)
    places = ir.Constant(vector(I32, count), list(range(1, 2 * count, 2)))
    return b.shuffle_vector(one, other, places)

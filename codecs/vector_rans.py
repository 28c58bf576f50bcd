"""The vector loops of the entropy coder: 64 lanes a step, in registers (FORMAT.md, "rANS").

Each emitter writes one loop. Addresses and counts are 64-bit integers. Every loop gives exactly
what the plain loops of ``rans_scalar`` give for the same steps.
"""

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
    splat,
    store,
    store_states,
    vector,
)

READ_AHEAD_BYTES = 2 * LANES + 32
"""A decoding step consumes at most one word per lane, and loads one vector of words beyond that."""

WRITE_SLACK_WORDS = 16
"""An encoding step may store, below the words it keeps, up to a vector of words that are
overwritten later.
"""


def emit_decode(
    b: ir.IRBuilder,
    vectors: VectorSet,
    source: tuple[Value, Value],
    slots: Value,
    states: Value,
    sink: Any,
    steps: Value,
    look_up: Any = None,
) -> tuple[Value, Value]:
    """Emits the decoder: up to ``steps`` steps while words may not run out.

    ``source``: addresses of the first word and of the end of the words. ``slots``: address of the
    (4096,) uint32 table, or of several with ``sink.context``. ``states``: address of (64,)
    uint32. ``sink``: takes the decoded entries of a vector. ``look_up``: finds them in some other
    way than by gathering from ``slots``. Returns the address of the next word and the number of
    steps done.
    """
    at, end = source
    look_up = look_up or Gathered(vectors, slots, sink)
    limit = add(b, end, -READ_AHEAD_BYTES)

    def keep_going(carried: list[Value]) -> Value:
        more = b.icmp_signed("<", carried[1], steps)
        return b.and_(more, b.icmp_signed("<=", carried[0], limit))

    lanes = load_states(b, vectors, states)
    loop = open_loop(b, [at, ir.Constant(I64, 0), *lanes], keep_going)
    at, step, *lanes = loop.carried
    first = b.mul(step, ir.Constant(I64, LANES))
    moved = []
    for index, x in enumerate(lanes):
        position = add(b, first, index * vectors.width)
        at, x = _decode_vector(b, vectors, at, look_up, x, sink, position)
        moved.append(x)
    loop.close([at, add(b, step, 1), *moved])
    store_states(b, loop.carried[2:], states)
    return loop.carried[0], loop.carried[1]


def _decode_vector(
    b: ir.IRBuilder,
    vectors: VectorSet,
    at: Value,
    look_up: Any,
    x: Value,
    sink: Any,
    position: Value,
) -> tuple[Value, Value]:
    entry, offset = look_up.find(b, x, position)
    frequency = b.and_(entry, splat(x, 4095))
    x = b.add(b.mul(frequency, b.lshr(x, splat(x, 12))), offset)
    sink.put(b, entry, position)
    chosen = b.icmp_unsigned("<", x, splat(x, 1 << 15))
    bits, count = mask_bits(b, chosen)
    words = b.zext(load(b, vector(I16, vectors.width), at), x.type)
    filled = b.or_(b.shl(x, splat(x, 16)), vectors.expand(b, words, chosen, bits))
    x = b.select(chosen, filled, x)
    return b.add(at, b.shl(count, ir.Constant(I64, 1))), x


class Gathered:
    """Finds the entries of a vector of states in a table of 4096 slots, or in several."""

    def __init__(self, vectors: VectorSet, slots: Value, sink: Any) -> None:
        self.vectors, self.slots, self.sink = vectors, slots, sink

    def find(self, b: ir.IRBuilder, x: Value, position: Value) -> tuple[Value, Value]:
        """Returns each lane's entry and the offset of its slot within its symbol."""
        low = splat(x, 4095)
        entry = self.vectors.gather(b, self.slots, self.sink.index(b, b.and_(x, low), position))
        return entry, b.and_(b.lshr(entry, splat(x, 12)), low)


class Folded:
    """Finds the entries of a vector of states in registers, by the table of ``fold_slots_kernel``.

    BF16 in cache: 7500 MB/s, where gathering gives 6700 in the same run (Zen 5).
    ``table``: its address. AVX-512 with VBMI alone.
    """

    def __init__(self, b: ir.IRBuilder, table: Value) -> None:
        rows = [load(b, vector(I32, 16), add(b, table, 64 * row)) for row in range(8)]
        self.middle, self.ends, self.bounds, self.entries = (
            (rows[place], rows[place + 1]) for place in range(0, 8, 2)
        )

    def find(self, b: ir.IRBuilder, x: Value, position: Value) -> tuple[Value, Value]:
        """Returns each lane's entry and the offset of its slot within its symbol."""
        del position
        slot = b.and_(x, splat(x, 4095))
        bucket = b.lshr(x, splat(x, 5))
        rank = self._permute(b, "qi", I8, self.middle, bucket)
        # The first and last 64 slots have a place each: six bits of the slot, and its top one.
        place = self._choose(b, splat(x, 63), x, bucket)
        exact = self._permute(b, "qi", I8, self.ends, place)
        # Masks stay in vectors: going through mask registers makes the chain of a step longer, and
        # its length is what bounds the decoder.
        is_end = b.ashr(b.shl(rank, splat(x, 24)), splat(x, 31))
        rank = self._choose(b, is_end, exact, rank)
        last = self._permute(b, "d", I32, self.bounds, rank)
        rank = b.add(rank, b.lshr(b.sub(last, slot), splat(x, 31)))
        entry = self._permute(b, "d", I32, self.entries, rank)
        start = b.and_(b.lshr(entry, splat(x, 12)), splat(x, 4095))
        return entry, b.sub(slot, start)

    def _choose(self, b: ir.IRBuilder, mask: Value, one: Value, other: Value) -> Value:
        """Returns the bits of ``one`` where those of ``mask`` are set, else those of ``other``."""
        arguments = [mask, one, other, ir.Constant(I32, 0xCA)]
        return call(b, "llvm.x86.avx512.pternlog.d.512", mask.type, arguments)

    def _permute(
        self,
        b: ir.IRBuilder,
        suffix: str,
        element: ir.Type,
        halves: tuple[Value, Value],
        index: Value,
    ) -> Value:
        kind = vector(element, 512 // element.width)  # type: ignore[attr-defined]
        low, high = (b.bitcast(half, kind) for half in halves)
        name = f"llvm.x86.avx512.vpermi2var.{suffix}.512"
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


class PlaneSink:
    """Stores the decoded symbols of a vector as bytes at address ``out``."""

    def __init__(self, out: Value) -> None:
        self.out = out

    def index(self, b: ir.IRBuilder, slot: Value, position: Value) -> Value:
        """Returns the place of each lane's entry in the table."""
        return slot

    def put(self, b: ir.IRBuilder, entry: Value, position: Value) -> None:
        """Stores the symbols of ``entry`` at ``position``."""
        symbols = b.trunc(b.lshr(entry, splat(entry, 24)), vector(I8, entry.type.count))
        store(b, symbols, b.add(self.out, position))


class ContextSink(PlaneSink):
    """Like ``PlaneSink``, with a table per context: ``contexts`` is the address of one uint8 per
    symbol.
    """

    def __init__(self, out: Value, contexts: Value) -> None:
        super().__init__(out)
        self.contexts = contexts

    def index(self, b: ir.IRBuilder, slot: Value, position: Value) -> Value:
        """Returns the place of each lane's entry in the table of its context."""
        context = _load_bytes(b, slot.type, b.add(self.contexts, position))
        return b.or_(slot, b.shl(context, splat(slot, 12)))


class PairSink(PlaneSink):
    """Joins the decoded exponents with the plane at address ``low`` into 16-bit floats at address
    ``out``.
    """

    def __init__(self, out: Value, low: Value) -> None:
        super().__init__(out)
        self.low = low

    def put(self, b: ir.IRBuilder, entry: Value, position: Value) -> None:
        """Stores the joined elements at ``position``."""
        low = _load_bytes(b, entry.type, b.add(self.low, position))
        sign = b.shl(b.and_(low, splat(low, 0x80)), splat(low, 8))
        rest = b.and_(low, splat(low, 0x7F))
        exponent = b.and_(b.lshr(entry, splat(entry, 17)), splat(entry, 0x7F80))
        word = b.trunc(b.or_(b.or_(sign, rest), exponent), vector(I16, entry.type.count))
        store(b, word, b.add(self.out, b.shl(position, ir.Constant(I64, 1))))


class PlaneSource:
    """Gives the table entries of a vector of symbols, bytes at address ``symbols``."""

    def __init__(self, symbols: Value) -> None:
        self.symbols = symbols

    def index(self, b: ir.IRBuilder, kind: ir.VectorType, position: Value) -> Value:
        """Returns the place of each lane's entry in the table."""
        return _load_bytes(b, kind, b.add(self.symbols, position))

    def entry(
        self,
        b: ir.IRBuilder,
        vectors: VectorSet,
        starts: Value,
        kind: ir.VectorType,
        position: Value,
    ) -> Value:
        """Returns each lane's entry of the table at address ``starts``."""
        return vectors.gather(b, starts, self.index(b, kind, position))


class FoldedSource(PlaneSource):
    """Like ``PlaneSource`` for a table of 32 entries, held in two registers instead of gathered
    from.

    An entry's place is its symbol modulo 32. ``table``: its address. AVX-512 alone.
    """

    def __init__(self, b: ir.IRBuilder, symbols: Value, table: Value) -> None:
        super().__init__(symbols)
        kind = vector(I32, 16)
        self.halves = load(b, kind, table), load(b, kind, add(b, table, 64))

    def entry(
        self,
        b: ir.IRBuilder,
        vectors: VectorSet,
        starts: Value,
        kind: ir.VectorType,
        position: Value,
    ) -> Value:
        """Returns each lane's entry."""
        del vectors, starts
        low, high = self.halves
        index = self.index(b, kind, position)
        return call(b, "llvm.x86.avx512.vpermi2var.d.512", kind, [low, index, high])


class ContextSource(PlaneSource):
    """Like ``PlaneSource``, with a table per context: ``contexts`` is the address of one uint8
    per symbol.
    """

    def __init__(self, symbols: Value, contexts: Value) -> None:
        super().__init__(symbols)
        self.contexts = contexts

    def index(self, b: ir.IRBuilder, kind: ir.VectorType, position: Value) -> Value:
        """Returns the place of each lane's entry in the table of its context."""
        symbol = super().index(b, kind, position)
        context = _load_bytes(b, kind, b.add(self.contexts, position))
        return b.or_(symbol, b.shl(context, splat(symbol, 8)))


def _load_bytes(b: ir.IRBuilder, kind: ir.VectorType, address: Value) -> Value:
    return b.zext(load(b, vector(I8, kind.count), address), kind)

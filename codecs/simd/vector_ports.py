"""Where the vector loops of ``simd.vector_rans`` take symbols from, and where they put them.

A sink says which table a lane's slot is looked up in, and stores what was found; a source gives the
table entries of the symbols to be coded.
"""

from collections.abc import Sequence

from llvmlite import ir

from .vector_ir import I8, I32, I64, Value, VectorSet, add, call, load, splat, store, vector


class PlaneSink:
    """Stores the decoded symbols as bytes at address ``out``."""

    def __init__(self, out: Value) -> None:
        self.out = out

    def index(self, b: ir.IRBuilder, slots: Sequence[Value], position: Value) -> Sequence[Value]:
        """Returns the place of each lane's entry in the table, for two vectors of slots."""
        return slots

    def put(self, b: ir.IRBuilder, symbols: Value, position: Value) -> None:
        """Stores ``symbols``, see ``Found``, from ``position`` on."""
        plane = b.trunc(b.lshr(symbols, splat(symbols, 8)), vector(I8, symbols.type.count))
        store(b, plane, b.add(self.out, position))


class ContextSink(PlaneSink):
    """Like ``PlaneSink``, with a table per context: ``contexts`` is the address of one uint8 per
    symbol.
    """

    def __init__(self, out: Value, contexts: Value) -> None:
        super().__init__(out)
        self.contexts = contexts

    def index(self, b: ir.IRBuilder, slots: Sequence[Value], position: Value) -> Sequence[Value]:
        """Returns the place of each lane's entry in the table of its context."""
        places = []
        for slot in slots:
            context = _load_bytes(b, slot.type, b.add(self.contexts, position))
            places.append(b.or_(slot, b.shl(context, splat(slot, 12))))
            position = add(b, position, slot.type.count)
        return places


class PairSink(PlaneSink):
    """Joins the decoded exponents with the plane at address ``low`` into 16-bit floats at address
    ``out``.
    """

    def __init__(self, vectors: VectorSet, out: Value, low: Value) -> None:
        super().__init__(out)
        self.vectors, self.low = vectors, low

    def put(self, b: ir.IRBuilder, symbols: Value, position: Value) -> None:
        """Stores the joined elements from ``position`` on."""
        low = _load_bytes(b, symbols.type, b.add(self.low, position))
        exponent = b.lshr(symbols, splat(symbols, 1))
        rest = self.vectors.choose(b, splat(low, 0x7F80), exponent, low)
        word = self.vectors.choose(b, splat(low, 0x8000), b.shl(low, splat(low, 8)), rest)
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

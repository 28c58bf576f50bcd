"""The two x86 instruction sets that the vector loops are emitted for (see
``vector_ir.VectorSet``).
"""

from typing import Any

from llvmlite import ir

from .vector_ir import (
    I1,
    I8,
    I16,
    I32,
    I64,
    POINTER,
    Value,
    add,
    broadcast,
    call,
    halve,
    load,
    mask_bits,
    splat,
    store,
    vector,
)


class Avx512:
    """Sixteen lanes; expand and compress are instructions. Ice Lake, Zen 4, and what came after."""

    features = ("avx512f", "avx512bw", "avx512vl", "avx512vbmi", "avx512vbmi2")
    width = 16

    def gather(self, b: ir.IRBuilder, table: Value, index: Value) -> Value:
        """Returns 32-bit ``table[index]`` per lane; ``table`` is an address."""
        every = ir.Constant(vector(I1, 16), [1] * 16)
        arguments = [splat(index, 0), b.inttoptr(table, POINTER), index, every, ir.Constant(I32, 4)]
        return call(b, "llvm.x86.avx512.mask.gather.dpi.512", index.type, arguments)

    def choose(self, b: ir.IRBuilder, mask: Value, one: Value, other: Value) -> Value:
        """Returns the bits of ``one`` where those of ``mask`` are set, else those of ``other``."""
        kind = vector(I32, 16)
        arguments = [b.bitcast(value, kind) for value in (mask, one, other)]
        name = "llvm.x86.avx512.pternlog.d.512"
        chosen = call(b, name, kind, [*arguments, ir.Constant(I32, 0xCA)])
        return b.bitcast(chosen, one.type)

    def refill(self, b: ir.IRBuilder, x: Value, words: Value, chosen: Value, bits: Value) -> Value:
        """Appends the first words, in order, to the chosen lanes of ``x``."""
        shifted = b.select(chosen, b.shl(x, splat(x, 16)), x)
        return b.or_(shifted, self.expand(b, words, chosen, bits))

    def expand(self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value) -> Value:
        """Spreads the first words over the chosen lanes, in order; the other lanes become 0."""
        name = "llvm.x86.avx512.mask.expand.v16i32"
        return call(b, name, words.type, [words, splat(words, 0), chosen])

    def expand_bytes(self, b: ir.IRBuilder, address: Value, chosen: Value) -> tuple[Value, Value]:
        """Spreads bytes over the chosen of 32 lanes of 16 bits, in order; the others become 0."""
        _, count = mask_bits(b, chosen)
        words: Value = b.zext(load(b, vector(I8, 32), address), vector(I16, 32))
        name = "llvm.x86.avx512.mask.expand.v32i16"
        return call(b, name, words.type, [words, splat(words, 0), chosen]), count

    def store_down(
        self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value, count: Value, end: Value
    ) -> None:
        """Stores the chosen lanes' low halves so that they end at ``end``; clobbers 32 bytes
        below it.
        """
        name = "llvm.x86.avx512.mask.compress.v16i32"
        packed = call(b, name, words.type, [words, splat(words, 0), chosen])
        # Turned round so that the kept words come last: the store cannot touch what is above
        # ``end``.
        places = b.add(
            ir.Constant(words.type, list(range(16))), broadcast(b, b.trunc(count, I32), 16)
        )
        turned = call(b, "llvm.x86.avx512.permvar.si.512", words.type, [packed, places])
        store(b, b.trunc(turned, vector(I16, 16)), add(b, end, -32))


class Avx2:
    """Eight lanes; expand and compress are permutations looked up by the mask."""

    features = ("avx2",)
    width = 8

    def gather(self, b: ir.IRBuilder, table: Value, index: Value) -> Value:
        """Returns 32-bit ``table[index]`` per lane; ``table`` is an address."""
        every = ir.Constant(index.type, [-1] * 8)
        arguments = [splat(index, 0), b.inttoptr(table, POINTER), index, every, ir.Constant(I8, 4)]
        return call(b, "llvm.x86.avx2.gather.d.d.256", index.type, arguments)

    def choose(self, b: ir.IRBuilder, mask: Value, one: Value, other: Value) -> Value:
        """Returns the bits of ``one`` where those of ``mask`` are set, else those of ``other``."""
        return b.or_(b.and_(one, mask), b.and_(other, b.not_(mask)))

    def refill(self, b: ir.IRBuilder, x: Value, words: Value, chosen: Value, bits: Value) -> Value:
        """Appends the first words, in order, to the chosen lanes of ``x``."""
        filled = b.or_(b.shl(x, splat(x, 16)), self.expand(b, words, chosen, bits))
        return b.select(chosen, filled, x)

    def expand(self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value) -> Value:
        """Spreads the first words over the chosen lanes, in order; the others hold anything."""
        return self._permute(b, words, "weightvault_expand", _expansion, bits)

    def expand_bytes(self, b: ir.IRBuilder, address: Value, chosen: Value) -> tuple[Value, Value]:
        """Spreads bytes over the chosen of 16 lanes of 16 bits, in order; the others hold
        anything.
        """
        halves: list[Value] = []
        taken: Value = ir.Constant(I64, 0)
        for half in halve(b, chosen):
            bits, count = mask_bits(b, half)
            words = b.zext(load(b, vector(I8, 8), b.add(address, taken)), vector(I32, 8))
            halves.append(b.trunc(self.expand(b, words, half, bits), vector(I16, 8)))
            taken = b.add(taken, count)
        lower, upper = halves
        both = ir.Constant(vector(I32, 16), list(range(16)))
        return b.shuffle_vector(lower, upper, both), taken

    def store_down(
        self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value, count: Value, end: Value
    ) -> None:
        """Stores the chosen lanes' low halves so that they end at ``end``; clobbers 16 bytes
        below it.
        """
        packed = self._permute(b, words, "weightvault_compress", _compression, bits)
        store(b, b.trunc(packed, vector(I16, 8)), add(b, end, -16))

    def _permute(
        self, b: ir.IRBuilder, words: Value, name: str, places: object, bits: Value
    ) -> Value:
        table = _constant_table(b.module, name, places)
        address = b.add(b.ptrtoint(table, I64), b.shl(b.zext(bits, I64), ir.Constant(I64, 3)))
        row = b.zext(load(b, vector(I8, 8), address), words.type)
        return call(b, "llvm.x86.avx2.permd", words.type, [words, row])


def _expansion(mask: int) -> list[int]:
    """For each of 8 lanes, which word a chosen one takes."""
    return [(mask & ((1 << lane) - 1)).bit_count() for lane in range(8)]


def _compression(mask: int) -> list[int]:
    """Which lane each of 8 words comes from, the chosen ones last and in order."""
    chosen = [lane for lane in range(8) if mask >> lane & 1]
    return [0] * (8 - len(chosen)) + chosen


def _constant_table(module: ir.Module, name: str, places: object) -> Value:
    if name in module.globals:
        return module.globals[name]
    cells = bytearray(cell for mask in range(256) for cell in places(mask))  # type: ignore[operator]
    kind = ir.ArrayType(I8, len(cells))
    table: Any = ir.GlobalVariable(module, kind, name)
    table.linkage = "internal"
    table.global_constant = True
    table.initializer = ir.Constant(kind, cells)
    return table

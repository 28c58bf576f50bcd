"""The two x86 instruction sets that the vector loops are emitted for (see
``vector_ir.VectorSet``).
"""

from typing import Any

from llvmlite import ir

from .vector_ir import I1, I8, I16, I32, I64, POINTER, Value, add, call, load, splat, store, vector


class Avx512:
    """Sixteen lanes; expand and compress are instructions. Needs AVX-512 F, BW and VL."""

    features = ("avx512f", "avx512bw", "avx512vl")
    width = 16

    def gather(self, b: ir.IRBuilder, table: Value, index: Value) -> Value:
        """Returns 32-bit ``table[index]`` per lane; ``table`` is an address."""
        every = ir.Constant(vector(I1, 16), [1] * 16)
        arguments = [splat(index, 0), b.inttoptr(table, POINTER), index, every, ir.Constant(I32, 4)]
        return call(b, "llvm.x86.avx512.mask.gather.dpi.512", index.type, arguments)

    def expand(self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value) -> Value:
        """Spreads the first words over the chosen lanes, in order; the other lanes become 0."""
        name = "llvm.x86.avx512.mask.expand.v16i32"
        return call(b, name, words.type, [words, splat(words, 0), chosen])

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
            ir.Constant(words.type, list(range(16))), _broadcast(b, b.trunc(count, I32), words.type)
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

    def expand(self, b: ir.IRBuilder, words: Value, chosen: Value, bits: Value) -> Value:
        """Spreads the first words over the chosen lanes, in order; the others hold anything."""
        return self._permute(b, words, "weightvault_expand", _expansion, bits)

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


def _broadcast(b: ir.IRBuilder, scalar: Value, kind: ir.VectorType) -> Value:
    first = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    places = ir.Constant(vector(I32, kind.count), [0] * kind.count)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)

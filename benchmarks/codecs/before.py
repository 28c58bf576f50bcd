"""Compares decoding and encoding with what an older version of this project takes, in one process.

    python -m weightvault.benchmarks.codecs.before --before CHECKOUT --corpus DIR [--save]

CHECKOUT is a clone of this project at an older commit. Of DIR, weights of ``minilm/base`` are
rounded to FP8, and quantised tensors are taken from ``llama/gguf`` (the package gguf reads them).
Both versions take turns; each codes and decodes frames of its own, on each path of this machine.
Figures are least processor seconds on one thread. --save writes results/before.csv.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..support.machine import RESULTS, save_rows
from ..support.weights import read_f32
from .bounds import kept_memory, line

_OUT = RESULTS / "before.csv"
_QUANTISED = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
_MOST_BYTES = 4 << 20
_LEAST = 1.5


def read_tensors(corpus: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields names, dtypes and bytes: weights in FP8, then the longest kind in each GGUF file."""
    weights = read_f32(corpus / "minilm" / "base" / "model.safetensors")
    values = np.concatenate([tensor.ravel() for tensor in weights.values()])
    yield "FP8", "F8_E4M3", _round_to_fp8(values[:_MOST_BYTES])
    reader: Any = import_module("gguf").GGUFReader
    for name in _QUANTISED:
        kinds: dict[str, list[np.ndarray]] = defaultdict(list)
        for tensor in reader(corpus / "llama" / "gguf" / f"base-{name}.gguf").tensors:
            kinds[tensor.tensor_type.name].append(np.asarray(tensor.data).reshape(-1))
        kinds = {kind: parts for kind, parts in kinds.items() if kind not in ("F32", "F16")}
        kind, parts = max(kinds.items(), key=lambda item: sum(part.size for part in item[1]))
        yield f"{name} ({kind})", kind, np.concatenate(parts)[:_MOST_BYTES].view(np.uint8)


def _round_to_fp8(values: np.ndarray) -> np.ndarray:
    """Returns E4M3 codes with the scale that makes the largest value 448, as FP8 models have."""
    scaled = np.abs(values) * (448 / np.abs(values).max())
    exponent = np.clip(np.floor(np.log2(np.maximum(scaled, 1e-30))), -6, 8)
    steps = np.round(scaled / 2.0 ** (exponent - 3))
    # A mantissa that rounds up to 16 carries into the exponent by itself.
    codes = np.where(exponent > -6, (exponent + 6) * 8 + steps, steps)
    codes = np.minimum(codes, 126).astype(np.uint8)
    return codes | (np.signbit(values).astype(np.uint8) << 7)


def measure(
    versions: dict[str, Any], dtype: str, raw: np.ndarray, level: str, path: str, rounds: int
) -> dict[str, tuple[int, float, float]]:
    """Returns stored bytes and least seconds of encoding and decoding of each version."""
    best: dict[str, tuple[int, float, float]]
    best = dict.fromkeys(versions, (0, math.inf, math.inf))
    for turn in range(rounds + 1):
        for name, (pipeline, paths) in versions.items():
            paths.force_path(path)
            start = time.process_time()
            frame = pipeline.encode_tensor(raw, dtype, level=level, digest=bytes(32), threads=1)
            middle = time.process_time()
            back = pipeline.decode_tensor(frame, threads=1, verify=False)
            end = time.process_time()
            assert turn or np.array_equal(np.frombuffer(back, np.uint8), raw)
            if turn:
                _, encoding, decoding = best[name]
                fastest = min(encoding, middle - start), min(decoding, end - middle)
                best[name] = len(frame), *fastest
    return best


def load_versions(before: Path) -> dict[str, Any]:
    """Imports the older version beside this one, under another name."""
    folder = tempfile.mkdtemp(prefix="weightvault-before-")
    Path(folder, "weightvault_before").symlink_to(before.resolve())
    sys.path.insert(0, folder)
    return {
        name: (
            import_module(f"{package}.codecs.pipeline"),
            import_module(f"{package}.codecs.simd.paths"),
        )
        for name, package in (("before", "weightvault_before"), ("now", "weightvault"))
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="clone at an older commit")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", action="store_true", help=f"write {_OUT.name}")
    arguments = parser.parse_args()
    versions = load_versions(arguments.before)
    rows, ratios = [], defaultdict(list)
    with kept_memory():
        for name, dtype, raw in read_tensors(arguments.corpus):
            for path in versions["now"][1].available_paths():
                for level in ("fast", "default"):
                    found = measure(versions, dtype, raw, level, path, arguments.rounds)
                    (was, slow, late), (size, quick, soon) = found["before"], found["now"]
                    row = {"tensor": name, "path": path, "level": level, "raw_bytes": raw.size}
                    row |= {"before_bytes": was, "stored_bytes": size}
                    row |= {"encode": round(raw.size / 1e6 / quick)}
                    row |= {"decode": round(raw.size / 1e6 / soon)}
                    row |= {"encode_to_before": round(slow / quick, 2)}
                    row |= {"decode_to_before": round(late / soon, 2)}
                    rows.append(row)
                    ratios[path, level].append(late / soon)
                    print(row, flush=True)
    for (path, level), all_ in ratios.items():
        mean = statistics.geometric_mean(all_)
        print(line(f"FP8 and quantised, {level}, {path}, decoding to before", mean, least=_LEAST))
    if arguments.save:
        save_rows(_OUT, rows)


if __name__ == "__main__":
    main()

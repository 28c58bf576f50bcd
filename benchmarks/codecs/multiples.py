"""Measures what integers times a scale take that are kept in wide floats.

    python -m weightvault.benchmarks.codecs.multiples --corpus DIR

The matrices of DIR/minilm/base are quantised to three values with a scale per row, to 4 bits per
128 elements, and to 8 bits per row, and multiplied out again in BF16, F16 and F32. multiples.csv:
frames in multiples of the entropy of the integers, the codec without scales and zstd likewise, and
MB of tensors encoded and decoded per second of processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import zstandard

from ...codecs.frame import parse_header
from ...codecs.pipeline import decode_tensor, encode_tensor
from ..support.machine import RESULTS, save_rows
from ..support.weights import read_f32

_DTYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
_ZSTD_LEVELS = (3, 19)


def quantise(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the integers, and the scale of each group of them, in bf16."""
    groups = values.reshape(-1, 128) if kind == "int4" else values
    largest = np.abs(groups).max(axis=1, keepdims=True)
    most = {"ternary": 1, "int4": 7, "int8": 127}[kind]
    scale = np.abs(groups).mean(axis=1, keepdims=True) if kind == "ternary" else largest / most
    scale = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    return np.clip(np.rint(groups / scale), -most, most) + 0.0, scale


def measure(tensors: dict[str, np.ndarray]) -> Iterator[dict[str, object]]:
    """Yields a row for each kind and dtype."""
    for kind in ("ternary", "int4", "int8"):
        for dtype in _DTYPES:
            yield {"kind": kind, "dtype": dtype, **_measure(tensors, kind, dtype)}


def _measure(tensors: dict[str, np.ndarray], kind: str, dtype: str) -> dict[str, object]:
    total = entropy = frames = planes = 0.0
    zstd = dict.fromkeys(_ZSTD_LEVELS, 0.0)
    encoding = decoding = 0.0
    for values in tensors.values():
        integers, scale = quantise(values, kind)
        raw = (integers.astype(np.float32) * scale).astype(_DTYPES[dtype]).tobytes()
        begin = time.process_time()
        frame = encode_tensor(raw, dtype, columns=values.shape[1], threads=1)
        between = time.process_time()
        assert bytes(decode_tensor(frame, threads=1)) == raw
        decoding += time.process_time() - between
        encoding += between - begin
        assert parse_header(frame).codec == "multiples"
        counts = np.unique(integers, return_counts=True)[1]
        entropy += float(-(counts * np.log2(counts / integers.size)).sum()) / 8
        total, frames = total + len(raw), frames + len(frame)
        planes += len(encode_tensor(raw, dtype, codec="planes"))
        for level in zstd:
            zstd[level] += len(zstandard.compress(raw, level))
    return {
        "bytes": int(total),
        "by_entropy": round(frames / entropy, 4),
        "planes_by_entropy": round(planes / entropy, 3),
        **{f"zstd_{level}_by_entropy": round(size / entropy, 3) for level, size in zstd.items()},
        "encode_mb_per_s": round(total / encoding / 1e6, 1),
        "decode_mb_per_s": round(total / decoding / 1e6, 1),
    }


def main() -> None:
    """Measures all and keeps the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with minilm in it")
    base = next((parser.parse_args().corpus / "minilm" / "base").glob("*.safetensors"))
    matrices = {n: v for n, v in read_f32(base).items() if ".layer." in n and v.ndim == 2}
    rows = []
    for row in measure(matrices):
        print(row, flush=True)
        rows.append(row)
    save_rows(RESULTS / "multiples.csv", rows)


if __name__ == "__main__":
    main()

"""Makes copies of MiniLM that can be computed from it: casts, FP8, transposed and widened ones."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from ..support.weights import read_f32, round_to_bf16
from .reduced import reduced_copies

Copies = list[tuple[str, Path, tuple[Path, ...]]]
"""Group, file of the copy, and the files that it is computed from."""


def make_copies(corpus: Path, folder: Path) -> Copies:
    """Writes copies to `folder` and returns them with their sources."""
    base = next((corpus / "minilm" / "base").glob("*.safetensors"))
    tensors = read_f32(base)
    bf16 = folder / "minilm-bf16.safetensors"
    _write(bf16, "BF16", {name: round_to_bf16(values) for name, values in tensors.items()})
    widened = {n: v.astype(ml_dtypes.bfloat16).astype(np.float32) for n, v in tensors.items()}
    made: Copies = [("cast", bf16, (base,))]
    for label, dtype, values, source in (
        ("fp16", "F16", {n: v.astype(np.float16) for n, v in tensors.items()}, base),
        ("widened", "F32", widened, bf16),
        ("f64", "F64", {n: v.astype(np.float64) for n, v in tensors.items()}, base),
        ("e4m3", "F8_E4M3", {n: _narrow(v, "float8_e4m3fn") for n, v in tensors.items()}, base),
        ("e5m2", "F8_E5M2", {n: _narrow(v, "float8_e5m2") for n, v in tensors.items()}, base),
        ("transposed", "F32", {n: np.ascontiguousarray(v.T) for n, v in tensors.items()}, base),
    ):
        path = folder / f"minilm-{label}.safetensors"
        _write(path, dtype, values)
        made.append(("layout" if label == "transposed" else "cast", path, (source,)))
    for group, name, words, sources in reduced_copies(corpus):
        path = folder / f"minilm-{name}.safetensors"
        _write(path, "BF16", words)
        made.append((group, path, sources))
    return made


def _narrow(values: np.ndarray, name: str) -> np.ndarray:
    return values.astype(getattr(ml_dtypes, name))


def _write(path: Path, dtype: str, tensors: dict[str, np.ndarray]) -> None:
    header: dict[str, object] = {}
    offset = 0
    for name, values in tensors.items():
        span = [offset, offset + values.nbytes]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": span}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(values.tobytes())

"""Makes models of a few KiB with weights that look like weights, and copies that can be computed
from them, for loops over many of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

from ...dedup.derivations.operations.gguf.blocks import quantise
from ...dedup.derivations.operations.gguf.layout import find_geometry

# Seeds of one family are tunes of one model, as fine-tunes on a hub are.
FAMILY = 10

CopyKind = Literal["source", "cast", "quantised"]


def write_tiny_model(folder: Path, seed: int, tensors: int = 4) -> Path:
    """Writes the model of that seed unless it is there: a safetensors file and a config."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    family = np.random.default_rng(seed // FAMILY)
    tune = np.random.default_rng(1000 + seed)
    weights = {}
    for i in range(tensors):
        base = family.normal(0, 0.05, (48, 64)).astype(np.float32)
        # One tensor of each family is frozen, so that models share it.
        step = 0.0 if i == 0 else 1e-4
        weights[f"layer.{i}.weight"] = base + tune.normal(0, step, base.shape).astype(np.float32)
    return _write(folder, weights, seed)


def write_tiny_copy(folder: Path, seed: int, kind: CopyKind) -> Path:
    """Writes, unless it is there, a model of that seed with wider tensors, or what is computed of
    it: a cast to F16, or a GGUF file with a Q8_0 and a Q4_K of each tensor."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(2000 + seed)
    values = {f"wide.{i}": random.normal(0, 0.05, (40, 256)).astype(np.float32) for i in range(2)}
    if kind == "quantised":
        _write_gguf(folder / "model.gguf", {n: _to_bf16(v) for n, v in values.items()})
        (folder / "config.json").write_text(json.dumps({"seed": seed}))
        return folder
    return _write(folder, values, seed, "BF16" if kind == "source" else "F16")


def _write(folder: Path, weights: dict[str, np.ndarray], seed: int, dtype: str = "BF16") -> Path:
    (folder / "model.safetensors").write_bytes(_safetensors(weights, dtype))
    (folder / "config.json").write_text(json.dumps({"seed": seed}))
    return folder


def _write_gguf(path: Path, weights: dict[str, np.ndarray]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    for name, values in weights.items():
        for kind in ("Q8_0", "Q4_K"):
            geometry = find_geometry(kind)
            blocks = np.empty(values.size // geometry.elements * geometry.block_bytes, np.uint8)
            quantise(kind, values.reshape(-1), blocks)
            dtype = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(f"{name}.{kind}", blocks.reshape(len(values), -1), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _to_bf16(values: np.ndarray) -> np.ndarray:
    """Returns float32 cut to the upper half of their bits."""
    return (values.view(np.uint32) >> 16 << 16).view(np.float32)


def _safetensors(weights: dict[str, np.ndarray], dtype: str) -> bytes:
    header: dict[str, object] = {}
    body = b""
    for name, values in weights.items():
        words = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        if dtype == "F16":
            words = _to_bf16(values).astype(np.float16).tobytes()
        offsets = [len(body), len(body) + len(words)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": offsets}
        body += words
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body

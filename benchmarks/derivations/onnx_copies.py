"""Writes ONNX models of quantised matrices, as onnxruntime's dynamic quantisation does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

Quantised = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Codes, scales, zero points."""


def per_column(w: np.ndarray) -> Quantised:
    """I8 of the transposed matrix, symmetric, with a scale for each output."""
    turned = np.ascontiguousarray(w.T)
    scales = np.abs(turned).max(0) * np.float32(2) / np.float32(254)
    codes = np.rint(turned / scales).clip(-127, 127).astype(np.int8)
    return codes, scales.astype(np.float32), np.zeros(scales.size, np.int8)


def per_tensor(w: np.ndarray) -> Quantised:
    """U8 of the transposed matrix, with one scale and zero point."""
    turned = np.ascontiguousarray(w.T)
    low, high = np.minimum(turned.min(), 0), np.maximum(turned.max(), 0)
    scale = np.float32((np.float64(high) - np.float64(low)) / 255)
    zero = np.rint(-low / scale)
    codes = (np.rint(turned / scale) + zero).clip(0, 255).astype(np.uint8)
    return codes, np.asarray(scale, np.float32), np.asarray(zero, np.uint8)


MODELS: dict[str, Callable[[np.ndarray], Quantised]] = {
    "onnx int8 per column": per_column,
    "onnx uint8 per tensor": per_tensor,
}


def write_onnx(path: Path, matrices: dict[str, Quantised]) -> None:
    """Writes a model that holds codes, scales and zero points, named as exporters name them."""
    tensors = []
    for number, (codes, scales, zeros) in enumerate(matrices.values()):
        name = f"onnx::MatMul_{1000 + 7 * number}"
        kind = TensorProto.INT8 if codes.dtype == np.int8 else TensorProto.UINT8
        tensors += [
            helper.make_tensor(f"{name}_zero_point", kind, zeros.shape, zeros.reshape(-1)),
            helper.make_tensor(f"{name}_quantized", kind, codes.shape, codes.tobytes(), raw=True),
            helper.make_tensor(
                f"{name}_scale", TensorProto.FLOAT, scales.shape, scales.reshape(-1)
            ),
        ]
    onnx.save(helper.make_model(helper.make_graph([], "matrices", [], [], tensors)), path)


def write_export(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes a model of float32 tensors as PyTorch's exporter does: what is multiplied with is
    transposed, and has no name of its own."""
    stored = []
    for number, (name, values) in enumerate(tensors.items()):
        turned = ".layer." in name and values.ndim == 2
        given = np.ascontiguousarray(values.T) if turned else values
        label = f"onnx::MatMul_{1000 + 7 * number}" if turned else name
        stored.append(
            helper.make_tensor(label, TensorProto.FLOAT, given.shape, given.tobytes(), raw=True)
        )
    onnx.save(helper.make_model(helper.make_graph([], "model", [], [], stored)), path)

"""Small models in every file format; those of PyTorch skip a test where it is not installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from weightvault.benchmarks.support import model_files
from weightvault.benchmarks.support.model_files import (
    Arrays,
    flax_bytes,
    ggml_bytes,
    gguf_bytes,
    hdf5_bytes,
    make_arrays,
    make_onnx,
    npy_bytes,
    npz_bytes,
    onnx_bytes,
    openvino_files,
    safetensors_of,
    tar_bytes,
    tf_bundle_bytes,
    tfjs_files,
)

__all__ = [
    "WRITERS",
    "Arrays",
    "flax_bytes",
    "ggml_bytes",
    "gguf_bytes",
    "hdf5_bytes",
    "make_arrays",
    "make_onnx",
    "npy_bytes",
    "npz_bytes",
    "onnx_bytes",
    "openvino_files",
    "safetensors_of",
    "tar_bytes",
    "tf_bundle_bytes",
    "tfjs_files",
    "torch_bytes",
]


def torch_bytes(arrays: Arrays, *, legacy: bool = False) -> bytes:
    """A PyTorch checkpoint of a state dictionary."""
    pytest.importorskip("torch")
    return model_files.torch_bytes(arrays, legacy=legacy)


WRITERS: dict[str, Callable[[Arrays], bytes]] = {
    **model_files.WRITERS,
    "model.pt": torch_bytes,
    "legacy.bin": lambda arrays: torch_bytes(arrays, legacy=True),
}
"""Every format that holds several tensors, by a file name that it goes by."""

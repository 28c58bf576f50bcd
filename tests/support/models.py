"""Makes small models for tests: real safetensors files with weights that look like weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SHAPES = {"embed.weight": (96, 64), "layer.0.weight": (64, 64), "layer.0.bias": (64,)}


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Rounds float32 to bfloat16 words, `uint16`, to nearest even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def make_weights(seed: int, shapes: dict[str, tuple[int, ...]] | None = None):
    """Returns named float32 tensors, normally distributed as trained weights are."""
    rng = np.random.default_rng(seed)
    named = (shapes or SHAPES).items()
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in named}


def tune(weights: dict[str, np.ndarray], seed: int, scale: float = 1e-4):
    """Returns the weights after a small update of each, as a fine-tune makes it."""
    rng = np.random.default_rng(seed)
    return {
        name: values + rng.normal(0, scale, values.shape).astype(np.float32)
        for name, values in weights.items()
    }


def safetensors_bytes(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """Returns a safetensors file of tensors given as dtype, shape and raw bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(raw for _, _, raw in tensors.values())


def bf16_file(weights: dict[str, np.ndarray]) -> bytes:
    """Returns the weights as a BF16 safetensors file."""
    return safetensors_bytes(
        {name: ("BF16", v.shape, to_bf16(v).tobytes()) for name, v in weights.items()}
    )


CARD = "# A model\n"


def write_model(folder: Path, weights: dict[str, np.ndarray], card: str | None = None) -> Path:
    """Writes a BF16 model with a config, and a card if given; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(bf16_file(weights))
    (folder / "config.json").write_text(json.dumps({"hidden_size": 64}))
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


def read_folder(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below a folder by relative path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }

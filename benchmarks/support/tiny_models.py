"""Makes models of a few KiB with weights that look like weights, for loops over many of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

# Seeds of one family are tunes of one model, as fine-tunes on a hub are.
FAMILY = 10


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
    (folder / "model.safetensors").write_bytes(_safetensors(weights))
    (folder / "config.json").write_text(json.dumps({"seed": seed}))
    return folder


def _safetensors(weights: dict[str, np.ndarray]) -> bytes:
    header: dict[str, object] = {}
    body = b""
    for name, values in weights.items():
        words = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        offsets = [len(body), len(body) + len(words)]
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": offsets}
        body += words
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body

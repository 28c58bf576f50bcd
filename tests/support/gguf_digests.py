"""Writes the digests of what operations compute; never for one that a release has written with.

python tests/support/gguf_digests.py tests/dedup/derivations/golden/gguf.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from blake3 import blake3
from gguf_samples import BLOCK, make_edges, make_integers, make_weights
from numpy.typing import NDArray

from weightvault.dedup.derivations.operations.gguf import blocks, dequantise, margins
from weightvault.dedup.derivations.operations.gguf.layout import KINDS, fields, find_geometry


def compute_gguf(kind: str, values: NDArray[np.float32], seed: int) -> dict[str, str]:
    """Returns the digests of what each function gives for a source, and for random stored blocks
    where it takes any."""
    size = find_geometry(kind)
    out = np.empty(values.size // size.elements * size.block_bytes, np.uint8)
    stored = np.array(make_integers(out.size, seed), np.uint32).astype(np.uint8)
    back = np.empty_like(values)
    found = {}
    blocks.quantise(kind, values, out)
    found["quantise"] = _digest(out)
    for function in (blocks.scales_given_factors, blocks.quants_given_scales):
        function(kind, values, stored, out)
        found[function.__name__] = _digest(out)
    counts = out.size // size.block_bytes * fields(kind)[-1].count
    nearness = np.empty(counts, np.uint8)
    margins.measure_margins(kind, values, out, nearness)
    found["measure_margins"] = _digest(nearness)
    dequantise.dequantise(kind, stored, back)
    found["dequantise"] = _digest(back)
    return found


def compute_all(weights: int = 96, step: int = 1) -> dict[str, dict[str, dict[str, str]]]:
    """Returns the digests by kind, sample and function, of so many blocks of weights and of every
    ``step``-th of the edges."""
    edges = np.ascontiguousarray(make_edges().reshape(-1, BLOCK)[::step]).reshape(-1)
    samples = {"weights": make_weights(weights), "edges": edges}
    return {
        kind: {name: compute_gguf(kind, values, 5) for name, values in samples.items()}
        for kind in KINDS
    }


def _digest(array: NDArray[np.generic]) -> str:
    return blake3(array.tobytes()).hexdigest()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(compute_all(), indent=1) + "\n")

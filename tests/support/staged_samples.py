"""Writes golden derived frames whose blocks are staged; never for one that a release has written.

python tests/staged_samples.py tests/dedup/derivations/golden
"""

import sys
from pathlib import Path

import numpy as np
from blake3 import blake3
from gguf_samples import make_integers, make_weights
from numpy.typing import NDArray

from weightvault.dedup.derivations import derived_frames
from weightvault.dedup.derivations.operations.gguf import blocks
from weightvault.dedup.derivations.operations.gguf.layout import find_geometry
from weightvault.dedup.derivations.recipe import Operand, Piece, Recipe

GOLDEN_KINDS = ("Q4_0", "Q4_K", "Q6_K", "IQ4_XS")
_BLOCKS = 32


def quantise(kind: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns the groups of (n,) float32."""
    size = find_geometry(kind)
    out = np.empty(values.size // size.elements * size.block_bytes, np.uint8)
    blocks.quantise(kind, values, out)
    return out


def make_pair(kind: str, count: int = _BLOCKS) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Returns groups of ``count`` times 256 weights, and a source that is not quite the one that
    was quantised: off by up to a 64th."""
    weights = make_weights(count)
    moved = make_weights(count, 9) * np.float32(2.0**-6)
    return quantise(kind, weights), (weights + moved).astype(np.float32)


def make_random(kind: str, count: int) -> NDArray[np.uint8]:
    """Returns groups of any bits."""
    size = find_geometry(kind)
    return np.array(make_integers(count * size.block_bytes, 3), np.uint32).astype(np.uint8)


def make_recipe(source: NDArray[np.float32]) -> Recipe:
    """Returns the recipe that quantises a source, (n,) float32."""
    raw = source.tobytes()
    return Recipe(10, 1, (Operand("F32", (Piece(blake3(raw).digest(), len(raw)),)),))


def encode(kind: str, groups: NDArray[np.uint8], source: NDArray[np.float32]) -> bytes:
    """Returns the derived frame of groups beside their source."""
    frame = derived_frames.encode(
        groups.data,
        kind,
        blake3(groups.tobytes()).digest(),
        make_recipe(source),
        lambda _digest, _size: source.view(np.uint8),
        most_bytes=1 << 30,
    )
    assert frame is not None
    return frame


if __name__ == "__main__":
    for each in GOLDEN_KINDS:
        Path(sys.argv[1], f"staged-{each}.frame").write_bytes(encode(each, *make_pair(each)))

"""Writes golden derived frames of pruned copies; never for one that a release has written.

python tests/support/pruned_samples.py tests/dedup/derivations/golden
"""

import sys
from pathlib import Path

import numpy as np
from blake3 import blake3
from operation_samples import make_words, weights

from weightvault.dedup.derivations import derived_frames
from weightvault.dedup.derivations.operations.values import Values
from weightvault.dedup.derivations.recipe import Operand, Piece, Recipe

ROWS, COLUMNS = 64, 96
KINDS = ("magnitude", "random", "tuned", "signed")


def make_source(dtype: str = "BF16", rows: int = ROWS) -> Values:
    """Returns the source: rows of COLUMNS weights."""
    return weights(dtype, rows * COLUMNS, 5)


def prune(source: Values, kind: str) -> np.ndarray:
    """Returns the words of a copy of a BF16 source with half of its elements set to zero."""
    words = source.raw.view(np.uint16).copy()
    if kind == "tuned":
        steps = make_words(words.size, 4) % np.uint64(5)
        words = words + steps.astype(np.uint16) - np.uint16(2)
    magnitudes = words & np.uint16(0x7FFF)
    noise = make_words(words.size, 6) % np.uint64(2) == 0
    cut = noise if kind == "random" else magnitudes < np.median(magnitudes)
    return np.where(cut, words & np.uint16(0x8000 if kind == "signed" else 0), words)


def make_recipe(source: Values) -> Recipe:
    """Returns the recipe that gives a source as it is."""
    raw = source.raw.tobytes()
    piece = Piece(blake3(raw).digest(), len(raw))
    return Recipe(1, 1, (Operand(source.dtype, (piece,)),), b"\0")


def encode(source: Values, target: np.ndarray) -> bytes:
    """Returns the derived frame of a copy beside its source."""
    frame = derived_frames.encode(
        target.data,
        source.dtype,
        blake3(target.tobytes()).digest(),
        make_recipe(source),
        lambda _digest, _size: source.raw,
        columns=COLUMNS,
        most_bytes=1 << 30,
    )
    assert frame is not None
    return frame


if __name__ == "__main__":
    for each in KINDS:
        given = make_source()
        frame = encode(given, prune(given, each))
        Path(sys.argv[1], f"pruned-{each}.frame").write_bytes(frame)

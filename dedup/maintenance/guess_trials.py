"""Measures guesses on the first bytes of a tensor, and encodes by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...codecs.buffers import view_bytes
from ...store.packs import DERIVED
from ..derivations import derived_frames
from ..derivations.guesses.kinds import Guess
from ..derivations.guesses.tensors import StoredTensor
from ..derivations.operations.errors import InvalidRecipe
from ..derivations.predict import (
    FREE_INPUT_BYTES,
    MOST_INPUT_SHARE,
    Prediction,
    whole_operand,
)
from ..derivations.recipe import Operand
from ..errors import Corrupt, Missing
from ..reading.chunk_reader import ChunkReader

LEAST_SAVED_BYTES = 256
"""What a derived frame must save: it is read with its inputs."""
MOST_SHARE_WIDENED = 0.02
# Guesses are measured on so many bytes of the target.
_PROBE_BYTES = 1 << 18
# Where there are many, all are looked at on so many, and so few tried.
_GLANCED_BYTES = 1 << 14
_TRIED = 2

Raw = NDArray[np.uint8]


class GuessTrials:
    """Tries guesses; `load` gives the raw bytes of a chunk by its digest and length."""

    def __init__(self, reader: ChunkReader, load: Callable[[bytes, int], Raw]) -> None:
        self._reader = reader
        self._chunk = load

    def choose(self, target: StoredTensor, guesses: Sequence[Guess]) -> Guess | None:
        """Returns the guess that takes the fewest bytes on the start of a tensor."""
        if not guesses:
            return None
        piece = target.pieces[0]
        raw = self._chunk(piece.digest, piece.raw_bytes)
        best, least = None, 1.0
        for guessed in self._likeliest(target, guesses, raw):
            start = raw[: _probe_bytes(target, guessed, raw)]
            most = min(int(least * start.size), most_bytes(target, guessed, start.size))
            frame = self.encode(target, start, bytes(32), guessed, 0, most)
            if frame is not None:
                best, least = guessed, len(frame) / start.size
        return best

    def encode(
        self,
        target: StoredTensor,
        raw: Raw,
        digest: bytes,
        guessed: Guess,
        first: int,
        most_bytes: int,
    ) -> bytes | None:
        """Returns the frame of a target's elements from `first` on, None where it would take more
        than `most_bytes`."""
        recipe = guessed.recipe(first, raw)
        if recipe is None:
            return None
        try:
            return derived_frames.encode(
                raw.data,
                target.dtype,
                digest,
                recipe,
                self._load,
                columns=target.shape[-1] if len(target.shape) > 1 else 0,
                most_bytes=most_bytes,
            )
        except (InvalidRecipe, Missing, Corrupt):
            # A source that is derived, collected or damaged by now is none.
            return None

    def _likeliest(
        self, target: StoredTensor, guesses: Sequence[Guess], raw: Raw
    ) -> Sequence[Guess]:
        """Returns the few guesses that give the most of the first bytes of a tensor; only one that
        gives all of them."""
        if len(guesses) <= _TRIED:
            return guesses
        shares: list[tuple[float, Guess]] = []
        arranged: dict[Operand, Raw] = {}
        for guessed in guesses:
            share = self._share_equal(target, raw, guessed, arranged)
            if share == 1:
                return [guessed]
            shares.append((share, guessed))
        ranked = sorted(shares, key=lambda pair: -pair[0])
        return [guessed for _, guessed in ranked[:_TRIED]]

    def _share_equal(
        self, target: StoredTensor, raw: Raw, guessed: Guess, arranged: dict[Operand, Raw]
    ) -> float:
        """Returns the share of the first bytes of a tensor's first chunk that a guess gives."""
        most = max(target.unit, _GLANCED_BYTES - _GLANCED_BYTES % target.unit)
        out = np.zeros(min(raw.size, most), np.uint8)
        try:
            recipe = guessed.recipe(0, raw)
            if recipe is not None:
                for operand in arranged.keys() - set(map(whole_operand, recipe.operands)):
                    del arranged[operand]
                made = Prediction(recipe, target.dtype, raw.size, self._load, arranged=arranged)
                made.fill(0, out)
        except (InvalidRecipe, Missing, Corrupt):
            return 0
        return float(np.mean(out == raw[: out.size]))

    def _load(self, digest: bytes, _: int) -> Raw:
        return view_bytes(self._reader.read_input(digest, DERIVED))


def most_bytes(target: StoredTensor, guessed: Guess, raw_bytes: int) -> int:
    """Returns what a frame may take. A tensor that is wider than its source holds nothing more, or
    was not made of it: then it is rather what the source was made of."""
    narrow = max(source.raw_bytes for source in guessed.sources) < target.raw_bytes
    return int(MOST_SHARE_WIDENED * raw_bytes) + LEAST_SAVED_BYTES if narrow else raw_bytes


def _probe_bytes(target: StoredTensor, guessed: Guess, raw: Raw) -> int:
    """Returns how many bytes a guess is measured on: more where its operands are read as a whole,
    since a recipe may not read without end to give little."""
    recipe = guessed.recipe(0, raw)
    read = sum(operand.raw_bytes for operand in recipe.operands) if recipe is not None else 0
    least = (read - FREE_INPUT_BYTES) // MOST_INPUT_SHARE + target.unit
    size = max(_PROBE_BYTES, least + target.unit)
    return min(raw.size, size - size % target.unit)

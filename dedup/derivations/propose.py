"""Guesses how one tensor may have been computed from another: which operations, and how the source
lies. Whether a guess is right is measured on the first block (FORMAT.md, "Recipes")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import find_dtype
from .operations.floats.formats import NAMES as FLOATS
from .operations.gguf.layout import KINDS as GROUPED
from .recipe import MAX_INPUTS, Arrangement, Axes, Operand, Piece, Recipe

CAST, QUANTISE = (1, 1), (10, 1)
"""Number and version of the operations that one source and no parameters are enough for."""

# Heads of attention whose rows a converter may have interleaved.
_HEADS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in the store: dtype, shape, and the chunks of its raw bytes, back to back."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    @property
    def bits(self) -> float:
        """How many bits an element takes: the more, the better a source."""
        dtype = find_dtype(self.dtype)
        return 8 * dtype.item_bytes * dtype.group_bytes / dtype.group_elements


@dataclass(frozen=True, slots=True)
class Guess:
    """A way to compute a target from a source: an operation of one operand, and its arrangement."""

    operation: tuple[int, int]
    parameters: bytes
    source: StoredTensor
    arrangement: Arrangement | None

    def recipe(self, first: int, count: int) -> Recipe | None:
        """Returns the recipe of `count` elements of the target from `first` on; None where it would
        name too many inputs."""
        pieces, offset = self.source.pieces, first
        if self.arrangement is None:
            pieces, offset = _covering(self.source, first, first + count)
        if len({piece.digest for piece in pieces}) > MAX_INPUTS:
            return None
        operand = Operand(self.source.dtype, pieces, offset, (1, 1), self.arrangement)
        return Recipe(*self.operation, (operand,), self.parameters)


def is_computable(dtype: str) -> bool:
    """Tells whether tensors of a dtype may be computed from others, and be what others are."""
    return dtype in FLOATS or dtype in GROUPED


def guess(
    target: StoredTensor, source: StoredTensor, arrangement: Arrangement | None
) -> Iterator[Guess]:
    """Yields the ways in which `target` may have been computed from `source`, arranged so; none
    for what is no more than a delta."""
    if target.dtype in GROUPED:
        yield Guess(QUANTISE, b"", source, arrangement)
    elif target.dtype != source.dtype or arrangement is not None:
        for flags in _cast_flags(target.dtype):
            yield Guess(CAST, bytes([flags]), source, arrangement)


def _cast_flags(dtype: str) -> tuple[int, ...]:
    return (0, 1) if dtype.startswith("F8_") else (0,)


def arrangements(target: tuple[int, ...], source: tuple[int, ...]) -> Iterator[Arrangement | None]:
    """Yields how a tensor of the shape `source` may lie in one of the shape `target` that has as
    many elements: as it is, transposed, or with the rows of each head interleaved (which
    llama.cpp's converter does to q and k, and its inverse)."""
    yield None
    if len(source) != 2 or len(target) != 2 or 1 in source:
        return
    rows, columns = source
    if target == (columns, rows):
        yield Axes(source, (1, 0))
    if target == source:
        for heads in _HEADS:
            if rows % (2 * heads) == 0 and rows > 2 * heads:
                half = rows // (2 * heads)
                yield Axes((heads, 2, half, columns), (0, 2, 1, 3))
                if half != 2:
                    yield Axes((heads, half, 2, columns), (0, 2, 1, 3))


def places_in_target(arrangement: Arrangement | None, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns where elements of a source lie in the arranged one, (n,) each."""
    if arrangement is None:
        return places
    assert isinstance(arrangement, Axes)
    index = np.unravel_index(places, arrangement.shape)
    moved = tuple(index[axis] for axis in arrangement.order)
    return np.ravel_multi_index(moved, tuple(arrangement.shape[a] for a in arrangement.order))


def _covering(tensor: StoredTensor, first: int, stop: int) -> tuple[tuple[Piece, ...], int]:
    """Returns the pieces that hold the elements [first, stop), and where they begin in these."""
    dtype = find_dtype(tensor.dtype)
    unit = dtype.item_bytes * dtype.group_bytes
    kept: list[Piece] = []
    at = skipped = 0
    for piece in tensor.pieces:
        count = piece.raw_bytes // unit * dtype.group_elements
        if at + count <= first:
            skipped = at + count
        elif at < stop:
            kept.append(piece)
        at += count
    return tuple(kept), first - skipped

"""How a source may lie in its copy: as it is, transposed, with the rows of heads interleaved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..recipe import Arrangement, Axes

# Heads of attention whose rows a converter may have interleaved.
_HEADS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128)


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


def places_in_source(arrangement: Arrangement | None, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns where elements of an arranged source lie in the source itself, (n,) each."""
    if arrangement is None:
        return places
    assert isinstance(arrangement, Axes)
    moved = tuple(arrangement.shape[axis] for axis in arrangement.order)
    index = np.unravel_index(places, moved)
    back = np.argsort(arrangement.order)
    return np.asarray(np.ravel_multi_index(tuple(index[a] for a in back), arrangement.shape))

"""Guesses floats of which some were set to zero, with the rest as in the source or tuned after it.

The recipe gives the source as it is; blocks say where the zeros are (FORMAT.md, "Masks").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..operations.floats.formats import NAMES as FLOATS
from .casts import CAST
from .kinds import Formula, Part, Pool, Ranked, View, rank
from .tensors import StoredTensor, Target

_SAMPLE = 2048
# So many of a sketch tell, too, without any reading.
_LEAST_WORDS = 64
# Fewer zeros than this share are worth no recipe.
_LEAST_ZEROS = 0.04


class Pruned:
    """A float tensor with zeros in it, computed from one of its dtype that lies as it does."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in FLOATS

    def views(self, target: Target) -> Iterator[View]:
        """Yields nothing: casts look for the target as it is, too."""
        yield from ()

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields copies of what the target is like, if it has zeros."""
        tensor = target.tensor
        if not has_zeros(target):
            return

        def admits(source: StoredTensor) -> bool:
            return source.dtype == tensor.dtype and source.shape == tensor.shape

        # Without its sketch: zeros are no order.
        view = View(tensor.shape, target.values, admits, arranged=False)
        for match in pool.matches(target, view):
            parts = (Part(match.source),)
            yield rank(tensor, match), Formula(CAST, parts, lambda _: b"\0", tensor)


def has_zeros(target: Target) -> bool:
    """Tells whether a good part of a float tensor is zero."""
    tensor = target.tensor
    if target.sketch is not None and len(target.sketch.words) >= _LEAST_WORDS * tensor.unit:
        # A sketch keeps at most four bytes of an element, the highest.
        words = np.frombuffer(target.sketch.words, f"<u{min(4, tensor.unit)}")
        top = words.dtype.type(1 << 8 * words.itemsize - 1)
        return bool(np.count_nonzero(words & ~top == 0) >= _LEAST_ZEROS * words.size)
    count = min(tensor.elements, tensor.count(tensor.pieces[0].raw_bytes))
    # A step that is no multiple of a row, so that no single column is looked at.
    places = np.arange(min(_SAMPLE, count), dtype=np.intp) * (count // _SAMPLE | 1) % count
    return bool(np.count_nonzero(target.values(places) == 0) >= _LEAST_ZEROS * places.size)


KIND = Pruned()

"""Guesses floats that were cast from others, arranged or not."""

from __future__ import annotations

from collections.abc import Iterator

from ..operations.floats.formats import NAMES as FLOATS
from .kinds import Formula, Part, Pool, Ranked, View, rank, view_as_is
from .tensors import StoredTensor, Target

CAST = (1, 1)
"""Number and version of the operation."""


class Casts:
    """A float tensor, computed from a float or quantised one."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in FLOATS

    def views(self, target: Target) -> Iterator[View]:
        """Yields the target as it is."""
        yield view_as_is(target, lambda source: _admits(target, source))

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields casts; none for what is no more than a delta."""
        (view,) = self.views(target)
        dtype = target.tensor.dtype
        for match in pool.matches(target, view):
            if dtype == match.source.dtype and match.arrangement is None:
                continue
            parts = (Part(match.source, (1, 1), match.arrangement),)
            for flags in (0, 1) if dtype.startswith("F8_") else (0,):
                parameters = bytes([flags])
                guess = Formula(CAST, parts, lambda _, p=parameters: p, target.tensor)
                yield rank(target.tensor, match), guess


def _admits(target: Target, source: StoredTensor) -> bool:
    """Among floats either may be the copy, as a wider one holds no more than the narrow one it was
    made of."""
    return source.bits > target.tensor.bits or source.dtype in FLOATS


KIND = Casts()

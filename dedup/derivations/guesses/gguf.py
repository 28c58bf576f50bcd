"""Guesses tensors that llama.cpp quantised."""

from __future__ import annotations

from collections.abc import Iterator

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.gguf.layout import KINDS as QUANTS
from .kinds import Formula, Part, Pool, Ranked, View, rank, with_rounded
from .tensors import StoredTensor, Target

QUANTISE = (10, 1)
"""Number and version of the operation."""


class Gguf:
    """A tensor of a GGUF dtype, computed from a float, or from another that has more bits."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in QUANTS

    def views(self, target: Target) -> Iterator[View]:
        """Yields the values that the target's groups stand for."""
        bits = target.tensor.bits

        def admits(source: StoredTensor) -> bool:
            return (source.dtype in FLOATS or source.dtype in QUANTS) and source.bits > bits

        yield View(target.tensor.shape, target.values, admits)

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields the operation that needs nothing but the source."""
        (view,) = self.views(target)
        for match in pool.matches(target, view):
            parts = (Part(match.source, (1, 1), match.arrangement),)
            formula = Formula(QUANTISE, parts, lambda _: b"", target.tensor)
            for guess in with_rounded(formula):
                yield rank(target.tensor, match), guess


KIND = Gguf()

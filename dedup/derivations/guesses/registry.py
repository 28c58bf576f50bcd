"""The kinds of guesses: to add one, write its module and list it here."""

from __future__ import annotations

from collections.abc import Iterator

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.gguf.layout import KINDS as QUANTS
from . import adapters, casts, gguf, grouped, merged, pruned, scaled, selected
from .kinds import Kind, Pool, Ranked, View
from .tensors import Target

_KINDS: tuple[Kind, ...] = (
    casts.KIND,
    gguf.KIND,
    scaled.KIND,
    grouped.BITSANDBYTES,
    grouped.MLX,
    pruned.KIND,
    selected.KIND,
    adapters.KIND,
    merged.KIND,
)


def is_computable(dtype: str) -> bool:
    """Tells whether tensors of a dtype may be computed from others."""
    return any(kind.takes(dtype) for kind in _KINDS)


def is_source(dtype: str) -> bool:
    """Tells whether others may be computed from tensors of a dtype alone: its values are known."""
    return dtype in FLOATS or dtype in QUANTS


def takes_any_size(dtype: str) -> bool:
    """Tells whether sources of a tensor of this dtype may have any number of elements."""
    return any(kind.any_size and kind.takes(dtype) for kind in _KINDS)


def views(target: Target) -> Iterator[View]:
    """Yields how a target can be looked for by content."""
    for kind in _KINDS:
        if kind.takes(target.tensor.dtype):
            yield from kind.views(target)


def guesses(target: Target, pool: Pool) -> Iterator[Ranked]:
    """Yields the ways in which a target may have been computed from what is in the pool."""
    for kind in _KINDS:
        if kind.takes(target.tensor.dtype):
            yield from kind.guesses(target, pool)

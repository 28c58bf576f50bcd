"""The kinds of guesses: to add one, write its module and list it here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.gguf.layout import KINDS as QUANTS
from . import adapters, casts, gguf, grouped, merged, pruned, scaled, selected
from .kinds import Kind, Pool, Ranked, View
from .tensors import Companions, StoredTensor, Target

# Elements that hold codes, words or bytes, for each of their scales, at least.
_CODES_PER_SCALE = 4
_NEAR_NAMES = 24

_KINDS: tuple[Kind, ...] = (
    casts.KIND,
    gguf.KIND,
    grouped.BITSANDBYTES,
    grouped.MLX,
    # Reads the target, which a repair cannot.
    scaled.KIND,
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


def in_order(tensors: Iterable[StoredTensor], companions: Companions) -> list[StoredTensor]:
    """Sorts tensors of a revision as they are to be derived: first those that others are computed
    from, the widest before others, then codes, and what may be the scales of codes last, since
    what is derived is no input of what comes after it."""
    listed = list(tensors)
    has_codes = any(scaled.KIND.takes(tensor.dtype) for tensor in listed)

    def key(tensor: StoredTensor) -> tuple[bool, bool, float]:
        is_late = has_codes and _may_be_scales(tensor, companions)
        return is_late, not is_source(tensor.dtype), -tensor.bits

    return sorted(listed, key=key)


def _may_be_scales(tensor: StoredTensor, companions: Companions) -> bool:
    return not scaled.KIND.takes(tensor.dtype) and any(
        scaled.KIND.takes(other.dtype) and other.elements >= _CODES_PER_SCALE * tensor.elements
        for other in companions.near(tensor.name, _NEAR_NAMES)
    )


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

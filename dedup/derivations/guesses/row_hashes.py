"""Finds the rows of one tensor among those of others, by hashes of their bytes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..operations.values import Raw

Hashes = NDArray[np.uint64]
NOWHERE = -1
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def hash_rows(rows: Raw) -> Hashes:
    """Returns a hash of each row, (n, bytes) uint8 to (n,). Equal ones are taken for equal rows;
    what a recipe gives is compared with the tensor in any case."""
    rest = -rows.shape[1] % 8
    if rest:
        rows = np.pad(rows, ((0, 0), (0, rest)))
    words = np.ascontiguousarray(rows).view("<u8")
    found = np.zeros(len(words), np.uint64)
    with np.errstate(over="ignore"):
        for first in range(0, words.shape[1], 64):
            part = words[:, first : first + 64]
            found += ((part ^ (part >> _SHIFT)) * _factors(words.shape[1])[first : first + 64]).sum(
                axis=1, dtype=np.uint64
            )
        found *= _SPREAD
    return found


@cache
def _factors(count: int) -> Hashes:
    """Odd numbers, one for each place of a row."""
    return np.random.default_rng(count).integers(1 << 63, size=count, dtype=np.uint64) | np.uint64(
        1
    )


def find_rows(wanted: Hashes, there: Hashes) -> NDArray[np.int64]:
    """Returns where each hash of `wanted` is among those `there`, NOWHERE where it is not; after
    the one of the row before if that is one of several."""
    order = np.argsort(there, kind="stable")
    at = np.minimum(np.searchsorted(there[order], wanted), max(0, there.size - 1))
    places = order[at] if there.size else np.zeros(wanted.size, np.int64)
    found = np.where(there[places] == wanted, places, NOWHERE) if there.size else places + NOWHERE
    _follow(found, wanted, there)
    return found.astype(np.int64)


def _follow(found: NDArray[np.int64], wanted: Hashes, there: Hashes) -> None:
    """Moves places of rows that are there more than once behind the one before."""
    jumps = (found[1:] - found[:-1] != 1) & (found[1:] != NOWHERE)
    for i in np.flatnonzero(jumps) + 1:
        place = found[i - 1] + 1
        if 0 < place < there.size and there[place] == wanted[i]:
            found[i] = place


def fill_gaps(found: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Returns the places with something for NOWHERE: the row behind that of the row before, so that
    there are few runs."""
    filled = found.copy()
    for i in np.flatnonzero(found == NOWHERE):
        filled[i] = min(filled[i - 1] + 1, most - 1) if i else 0
    return filled

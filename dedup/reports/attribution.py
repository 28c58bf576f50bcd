"""Splits the frames that several owners reach among them (ARCHITECTURE.md, "Attribution").

An owner reaches a chunk that it uses, and all that the frames of those need. A frame's bytes
are split in equal whole parts among its owners; the bytes left over go, one each, to the first of
them. So the parts of all owners add up to the frames, to the byte. Owners are numbered from 0, in
the order in which they are first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...store.catalogue.reports.needs import Needs

Integers = NDArray[np.int64]

Positions = NDArray[np.int32]

# Bounds the memory that splitting takes, some 80 bytes a pair.
_PAIRS_AT_ONCE = 1 << 19

# numpy adds up by index fastest in float64, in which whole numbers are exact up to here; sums of
# halves of larger ones are.
_EXACT = 1 << 53
_HALF_BITS = 26


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Which owner reaches which chunk, each pair once: (p,) each, by chunk, then owner. `uses`
    tells those that the owner has in a file from those that only other frames need."""

    owner: Positions
    chunk: Positions
    uses: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Bytes of each owner, (owners,) each; fields as in model.Row."""

    unique: Integers
    exclusive: Integers
    shared: Integers
    attributed: Integers


def find_reach(owner: Positions, chunk: Positions, needs: Needs, owners: int) -> Reach:
    """Returns what each owner reaches, given its references, as pairs of owner and chunk in any
    order and number, and what every chunk needs."""
    # In place as far as it goes: nothing that a report makes is larger.
    keys = _pair_keys(owner, chunk, needs, owners)
    # Sorting takes a fortieth of what np.unique takes, which hashes.
    keys.sort()
    through = keys.astype(np.uint8) & 1
    keys >>= 1
    first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    keys = keys[first]
    chunks = (keys // max(owners, 1)).astype(np.int32)
    keys %= max(owners, 1)
    return Reach(keys.astype(np.int32), chunks, through[first] == 0)


def _pair_keys(owner: Positions, chunk: Positions, needs: Needs, owners: int) -> Integers:
    """One number for each pair and how it is reached, 0 by use, so that one sort groups and orders
    them by chunk, owner and that."""
    place, source = needs.of(chunk)
    keys = np.empty(len(chunk) + len(place), np.int64)
    direct, through = keys[: len(chunk)], keys[len(chunk) :]
    direct[:], through[:] = chunk, source
    keys *= owners
    direct += owner
    through += owner[place]
    keys *= 2
    through += 1
    return keys


def split_frames(reach: Reach, frame_bytes: Integers, raw_bytes: Integers, owners: int) -> Shares:
    """Returns what each owner has of the frames; sizes are those of all chunks."""
    count = np.bincount(reach.chunk, minlength=len(frame_bytes))
    starts = np.cumsum(count) - count
    totals = np.zeros((4, owners), np.int64)
    for start in range(0, len(reach.chunk), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        owner, chunk, uses = reach.owner[part], reach.chunk[part], reach.uses[part]
        size, sharing = frame_bytes[chunk], count[chunk]
        # Pairs are by chunk and owner: the place among a chunk's owners is that since its first.
        place = np.arange(start, start + len(chunk)) - starts[chunk]
        share = size // sharing + (place < size % sharing)
        alone = sharing == 1
        totals[0] += sum_by(owner[uses], raw_bytes[chunk[uses]], owners)
        totals[1] += sum_by(owner[alone], size[alone], owners)
        totals[2] += sum_by(owner[~alone], size[~alone], owners)
        totals[3] += sum_by(owner[~alone], share[~alone], owners)
    return Shares(*totals)


def sum_by(index: NDArray[np.integer], values: Integers, count: int) -> Integers:
    """Returns for each i below `count` the exact sum of the non-negative `values` where `index`
    is i."""
    if int(values.max(initial=0)) * len(values) < _EXACT:
        return np.bincount(index, values, count).astype(np.int64)
    low = np.bincount(index, values & (1 << _HALF_BITS) - 1, count).astype(np.int64)
    high = np.bincount(index, values >> _HALF_BITS, count).astype(np.int64)
    return low + (high << _HALF_BITS)


def find_partners(
    reach: Reach, owner: int, frame_bytes: Integers, most: int
) -> list[tuple[int, int]]:
    """Returns with which others an owner shares most bytes, as owner and bytes, most first."""
    mine = reach.chunk[reach.owner == owner]
    first, stop = np.searchsorted(reach.chunk, mine), np.searchsorted(reach.chunk, mine, "right")
    lengths = stop - first
    # The pairs of all of its chunks: runs from each first one on, joined.
    runs = np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    others = reach.owner[runs]
    found, inverse = np.unique(others, return_inverse=True)
    totals = sum_by(inverse, frame_bytes[reach.chunk[runs]], len(found))
    ranked = sorted(zip((-totals).tolist(), found.tolist(), strict=True))
    return [(other, -size) for size, other in ranked if other != owner and size][:most]

"""Splits the frames that several owners reach among them (ARCHITECTURE.md, "Attribution").

An owner reaches a chunk that it uses, and the base of every delta that it uses. A frame's bytes
are split in equal whole parts among its owners; the bytes left over go, one each, to the first of
them. So the parts of all owners add up to the frames, to the byte. Owners are numbered from 0, in
the order in which they are first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# Sums of halves stay whole numbers in a float64, in which numpy adds up by index fastest.
_HALF_BITS = 26


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Which owner reaches which chunk, each pair once: (p,) each, by chunk, then owner. `uses`
    tells those that the owner has in a file from those that it only needs as a base."""

    owner: Integers
    chunk: Integers
    uses: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Bytes of each owner, (owners,) each; fields as in model.Row."""

    unique: Integers
    exclusive: Integers
    shared: Integers
    attributed: Integers


def find_reach(owner: Integers, chunk: Integers, base: Integers, owners: int) -> Reach:
    """Returns what each owner reaches, given its references, as pairs of owner and chunk in any
    order and number, and the base of every chunk (-1: none)."""
    bases = base[chunk]
    deltas = bases >= 0
    # One number for each pair, and for how it is reached: so one sort groups and orders them.
    direct = (chunk * owners + owner) * 2
    through = (bases[deltas] * owners + owner[deltas]) * 2 + 1
    # Sorting takes a fortieth of what np.unique takes, which hashes.
    keys = np.sort(np.concatenate([direct, through]))
    first = np.ones(len(keys), np.bool_)
    first[1:] = keys[1:] >> 1 != keys[:-1] >> 1
    keys = keys[first]
    pairs = keys >> 1
    return Reach(pairs % max(owners, 1), pairs // max(owners, 1), keys & 1 == 0)


def split_frames(reach: Reach, frame_bytes: Integers, raw_bytes: Integers, owners: int) -> Shares:
    """Returns what each owner has of the frames; sizes are those of all chunks."""
    size = frame_bytes[reach.chunk]
    count = np.bincount(reach.chunk, minlength=len(frame_bytes))
    sharing = count[reach.chunk]
    # Pairs are by chunk and owner, so the place among a chunk's owners is that since its first.
    starts = np.cumsum(count) - count
    place = np.arange(len(size)) - starts[reach.chunk]
    part = size // np.maximum(sharing, 1) + (place < size % np.maximum(sharing, 1))
    alone = sharing == 1
    return Shares(
        unique=sum_by(reach.owner, np.where(reach.uses, raw_bytes[reach.chunk], 0), owners),
        exclusive=sum_by(reach.owner, np.where(alone, size, 0), owners),
        shared=sum_by(reach.owner, np.where(alone, 0, size), owners),
        attributed=sum_by(reach.owner, np.where(alone, 0, part), owners),
    )


def sum_by(index: Integers, values: Integers, count: int) -> Integers:
    """Returns for each i below `count` the exact sum of the non-negative `values` where `index`
    is i."""
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

"""Which rows of a tensor an index takes: what has to be read of it, and what of that is wanted."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import Any

Index = int | slice | EllipsisType

# Between rows that are further apart than this, more is read in vain than another range costs.
_FAR_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """What an index takes of a tensor.

    `ranges`: runs of elements to read, first and behind the last, each of as many. Read one after
    the other they are an array of the shape `shape`, of which `index` is what was asked for.
    """

    ranges: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    index: tuple[int | slice, ...]


def plan_reading(shape: tuple[int, ...], index: Any, item_bytes: int) -> Reading:
    """Returns what to read for `array[index]` of an array of that shape: integers, slices with any
    step, and one `...`, as numpy takes them.

    Whole rows along the first dimension that is not a single place: so one row, or some that
    follow each other, are one run. Raises IndexError as numpy does, and TypeError for an index of
    another kind.
    """
    full = _normalise(shape, index)
    leading = next((i for i, part in enumerate(full) if not isinstance(part, int)), len(full))
    places = [part for part in full[:leading] if isinstance(part, int)]
    offset = sum(place * prod(shape[i + 1 :]) for i, place in enumerate(places))
    rest = full[leading:]
    if not rest:
        return Reading(((offset, offset + 1),), (1,), (0,))
    rows = range(*rest[0].indices(shape[leading])) if isinstance(rest[0], slice) else range(0)
    row = prod(shape[leading + 1 :])
    below = (len(rows), *shape[leading + 1 :])
    if not rows or not row:
        return Reading((), below, (slice(None), *rest[1:]))
    if abs(rows.step) * row * item_bytes >= _FAR_BYTES and abs(rows.step) > 1:
        runs = tuple((offset + r * row, offset + (r + 1) * row) for r in rows)
        return Reading(runs, below, (slice(None), *rest[1:]))
    first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
    start = 0 if rows.step > 0 else last - first
    stop = None if rows.step < 0 else last - first + 1
    read = (last + 1 - first, *shape[leading + 1 :])
    run = (offset + first * row, offset + (last + 1) * row)
    return Reading((run,), read, (slice(start, stop, rows.step), *rest[1:]))


def _normalise(shape: tuple[int, ...], index: Any) -> tuple[int | slice, ...]:
    """Returns an index with one part for each dimension, its places from 0 on."""
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if len(parts) - len(dots) > len(shape):
        raise IndexError(f"too many indices: {len(parts) - len(dots)} for {len(shape)} dimensions")
    at = dots[0] if dots else len(parts)
    missing = (slice(None),) * (len(shape) - len(parts) + len(dots))
    full = (*parts[:at], *missing, *parts[at + 1 :])
    return tuple(
        _check_part(part, size, i) for i, (part, size) in enumerate(zip(full, shape, strict=True))
    )


def _check_part(part: Any, size: int, axis: int) -> int | slice:
    if isinstance(part, slice):
        return part
    if isinstance(part, bool):
        raise TypeError("an index is made of integers, slices and '...'")
    place = operator.index(part)
    if not -size <= place < size:
        raise IndexError(f"index {place} is out of bounds for axis {axis} with size {size}")
    return place % size

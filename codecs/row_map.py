"""Says which parts of a tensor stand where in its base (FORMAT.md, "Row maps").

Rows appended to an embedding, a fused projection against one of its parts, a shard against the
whole: the parts in common are coded against the base, all else is standalone.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from .buffers import Bytes
from .errors import CorruptFrame

Rows = tuple[tuple[int, int, int], ...]
"""Runs of bytes as (start in the tensor, start in the base, length): ascending in the tensor,
apart, none of them empty."""

_ENTRY = struct.Struct("<QQQ")
MOST_RUNS = 1 << 16
"""Bounds what a header can make a reader allocate beyond its own length."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``start`` to ``stop`` of a tensor; in the base they begin at ``base_start``, which is
    None where they are not in it.
    """

    start: int
    stop: int
    base_start: int | None


def check_rows(rows: Sequence[Sequence[int]], raw_bytes: int, base_bytes: int | None) -> Rows:
    """Returns ``rows`` as a tuple; raises ValueError unless they are ascending in the tensor,
    apart, not empty, and within both tensors.

    ``base_bytes``: length of the base, None where it is not known.
    """
    checked = tuple((int(to), int(start), int(count)) for to, start, count in rows)
    end = 0
    for to, start, count in checked:
        if to < end or start < 0 or count <= 0 or to + count > raw_bytes:
            raise ValueError(f"the row map has an impossible run {(to, start, count)}")
        if base_bytes is not None and start + count > base_bytes:
            raise ValueError(f"run {(to, start, count)} does not lie in a base of {base_bytes}")
        end = to + count
    if len(checked) > MOST_RUNS:
        raise ValueError(f"a row map of {len(checked)} runs; at most {MOST_RUNS} allowed")
    return checked


def pack_rows(rows: Rows) -> bytes:
    """Returns the map as a header holds it."""
    return len(rows).to_bytes(4, "little") + b"".join(_ENTRY.pack(*run) for run in rows)


def parse_rows(count: int, packed: bytes, raw_bytes: int) -> Rows:
    """Parses ``count`` runs; raises CorruptFrame for a map that ``check_rows`` would refuse."""
    try:
        return check_rows(list(_ENTRY.iter_unpack(packed[: count * _ENTRY.size])), raw_bytes, None)
    except ValueError as error:
        raise CorruptFrame(str(error)) from None


def packed_bytes(count: int) -> int:
    """Returns how long ``count`` packed runs are, without their number."""
    return count * _ENTRY.size


def base_extent(rows: Rows) -> int:
    """Returns how long a base must be at least."""
    return max((start + count for _, start, count in rows), default=0)


def cut_parts(rows: Rows, start: int, stop: int) -> Iterator[Part]:
    """Yields the parts of the bytes from ``start`` to ``stop`` of the tensor, in order, each
    wholly in the base or wholly not.
    """
    at = start
    first = max(0, bisect_right(rows, start, key=itemgetter(0)) - 1)
    for to, source, count in islice(rows, first, None):
        if to + count <= at:
            continue
        if to >= stop:
            break
        if to > at:
            yield Part(at, to, None)
            at = to
        end = min(to + count, stop)
        yield Part(at, end, source + at - to)
        at = end
    if at < stop:
        yield Part(at, stop, None)


def piece_of(base: Bytes, part: Part) -> Bytes | None:
    """Returns the bytes of the base that ``part`` names."""
    if part.base_start is None:
        return None
    return base[part.base_start : part.base_start + part.stop - part.start]

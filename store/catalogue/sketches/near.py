"""Finds chunks by content, in a few index look-ups (`bands`).

A push asks for every tensor, a step that derives dozens of times for one: statements are made once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, union_all

from ..edges import dependent_of
from ..owners import readable_in
from ..tables.database import Database
from ..tables.rows import SketchRow, batches
from ..tables.schema import BANDS, chunks, sketches
from ..visibility import Scope
from .bands import band_values

# Rows looked at for one band. More share it only by chance among 10^8 tensors of a shape, or when
# many almost equal chunks are standalone: any of them will do.
_ROWS_PER_BAND = 64
# Those looked at for whether somebody may read them, the oldest first: so many would have to be
# there before a chunk to hide it from its owner.
_ROWS_SEEN_PER_BAND = 4096
# Owners whose statements are kept: to make one takes a few milliseconds.
QUERIES_KEPT = 256
# Deltas on what was found that are looked at: more members has hardly a family.
_DELTAS_SEEN = 1024

Near = list[tuple[int, bytes]]
"""Chunks by their ids, each with the bits of its sketch."""


def find_near(
    catalogue: Database,
    row: SketchRow,
    scopes: Sequence[Scope] = (),
    dtypes: Collection[int] = (),
) -> Near:
    """Returns chunks that are standalone, have the dtype of `row`, or one of `dtypes`, and share
    bands with it; only those that a repo of each of `scopes` has, as if there were no others.
    Whether they are related is for the caller to see.

    Those that share but one band are left out where others share more: chance makes them, and
    their rows, unlike the indexes of the bands, lie anywhere on the disk.
    """
    (found,) = find_near_each(catalogue, row.kind, [row.bits], scopes, dtypes or (row.dtype,))
    return found


def find_near_each(
    catalogue: Database,
    kind: int | None,
    asked: Sequence[bytes],
    scopes: Sequence[Scope],
    dtypes: Collection[int],
) -> list[Near]:
    """Does as find_near for several sketches of one kind, by their bits."""
    if kind is None:
        return [[] for _ in asked]
    with catalogue.reading() as connection:
        counts = [_count_bands(connection, kind, bits, tuple(scopes)) for bits in asked]
        return choose_near(connection, counts, dtypes)


def choose_near(
    connection: Connection, counts: Sequence[Mapping[int, int]], dtypes: Collection[int]
) -> list[Near]:
    """Returns what find_near finds, for several sketches, of the chunks that share so many bands
    with each."""
    several = [[chunk for chunk, count in each.items() if count > 1] for each in counts]
    known = _read_bits(connection, _flat(several), dtypes)
    found = [_with_bits(ids, known) for ids in several]
    once = [[] if near else list(each) for near, each in zip(found, counts, strict=True)]
    known |= _read_bits(connection, _flat(once) - known.keys(), dtypes)
    return [near or _with_bits(ids, known) for near, ids in zip(found, once, strict=True)]


def _flat(lists: Iterable[list[int]]) -> set[int]:
    return {chunk for each in lists for chunk in each}


def _with_bits(chunk_ids: list[int], known: dict[int, bytes]) -> Near:
    return [(chunk, known[chunk]) for chunk in sorted(chunk_ids) if chunk in known]


def find_deltas(
    catalogue: Database,
    chunk_ids: Collection[int],
    scopes: Sequence[Scope],
    dtypes: Collection[int],
) -> Near:
    """Returns some of the deltas on these chunks that have one of `dtypes`, the oldest first; only
    those that a repo of each of `scopes` has."""
    query = _delta_query(tuple(scopes))
    with catalogue.reading() as connection:
        return [
            (row.chunk_id, row.bits)
            for batch in batches(list(chunk_ids))
            for row in connection.execute(query, {"bases": batch, "dtypes": list(dtypes)})
        ]


@lru_cache(QUERIES_KEPT)
def _delta_query(scopes: tuple[Scope, ...]) -> Any:
    named = chunks.alias("named")
    bases = select(named.c.digest).where(named.c.id.in_(bindparam("bases", expanding=True)))
    query = select(sketches.c.chunk_id, sketches.c.bits).where(_of_dtypes())
    query = query.join(chunks, chunks.c.id == sketches.c.chunk_id)
    if scopes:
        query = query.where(readable_in(scopes, sketches.c.chunk_id))
    query = query.where(dependent_of(bases, deltas=True))
    return query.order_by(sketches.c.chunk_id).limit(_DELTAS_SEEN)


def _of_dtypes() -> Any:
    return sketches.c.dtype.in_(bindparam("dtypes", expanding=True))


def _count_bands(
    connection: Connection, kind: int, bits: bytes, scopes: tuple[Scope, ...]
) -> dict[int, int]:
    """Returns how many bands chunks share with a sketch, by their ids."""
    values = {f"v{name}": value for name, value in band_values(kind, bits).items()}
    if not scopes:
        return Counter(connection.execute(_SHARING, values).scalars())
    found = connection.execute(_scoped_query(scopes), values)
    return {row.chunk_id: row.bands for row in found}


def _sharing_query(rows_per_band: int, *, oldest: bool) -> Any:
    """One look-up for each band, so that no planner can mistake them for a scan; all they read are
    the indexes."""
    parts = []
    for i in range(BANDS):
        wanted = sketches.c[f"band{i}"] == bindparam(f"vband{i}")
        part = select(sketches.c.chunk_id).where(wanted).limit(rows_per_band)
        if oldest:
            part = part.order_by(sketches.c.chunk_id)
        parts.append(select(part.subquery(f"part{i}")))
    return union_all(*parts)


_SHARING = _sharing_query(_ROWS_PER_BAND, oldest=False)


@lru_cache(QUERIES_KEPT)
def _scoped_query(scopes: tuple[Scope, ...]) -> Any:
    """As _SHARING, of chunks of the scopes alone, which others do not crowd out, however many come
    later: who may read a chunk is seen before rows are left out, and once for all its bands."""
    shared = _sharing_query(_ROWS_SEEN_PER_BAND, oldest=True).subquery("shared")
    count = func.count().label("bands")
    counted = select(shared.c.chunk_id, count).group_by(shared.c.chunk_id).subquery("counted")
    return (
        select(counted.c.chunk_id, counted.c.bands)
        .where(readable_in(scopes, counted.c.chunk_id))
        .order_by(counted.c.bands.desc(), counted.c.chunk_id)
        .limit(_ROWS_PER_BAND * BANDS)
    )


_IDS = bindparam("ids", expanding=True)
_BITS = select(sketches.c.chunk_id, sketches.c.bits).where(
    sketches.c.chunk_id.in_(_IDS), _of_dtypes()
)


def _read_bits(
    connection: Connection, chunk_ids: Collection[int], dtypes: Collection[int]
) -> dict[int, bytes]:
    return {
        row.chunk_id: row.bits
        for batch in batches(list(chunk_ids))
        for row in connection.execute(_BITS, {"ids": batch, "dtypes": list(dtypes)})
    }

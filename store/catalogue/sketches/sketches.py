"""Finds chunks by content, in a few index look-ups (store/catalogue/sketches/bands.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, union_all, update

from ..edges import (
    dependent_of,
    edge_columns,
    is_derived,
    is_standalone,
    needed_among,
    reaching,
)
from ..owners import readable_in, scope_condition
from ..tables.database import Database
from ..tables.rows import Location, SketchRow, batches, by_digest
from ..tables.schema import BANDS, chunks, commit_chunks, commits, packs, repos, sketches
from ..visibility import EVERYTHING, Scope
from .bands import band_values

# Rows looked at for one band. More share it only by chance among 10^8 tensors of a shape, or when
# many almost equal chunks are standalone: any of them will do.
_ROWS_PER_BAND = 64
# Those looked at for whether somebody may read them, the oldest first: so many would have to be
# there before a chunk to hide it from its owner.
_ROWS_SEEN_PER_BAND = 4096
# Owners whose statements are kept: to make one takes a few milliseconds.
_QUERIES_KEPT = 256
# Deltas on what was found that are looked at: more members has hardly a family.
_DELTAS_SEEN = 1024


@dataclass(frozen=True, slots=True)
class Centre:
    """A chunk that is standalone: its sketch, and a revision through which it can be read."""

    sketch: SketchRow
    frame_bytes: int
    repo: str
    revision: str


def find_near(
    catalogue: Database,
    row: SketchRow,
    scopes: Sequence[Scope] = (),
    dtypes: Collection[int] = (),
) -> list[tuple[int, bytes]]:
    """Returns chunks that are standalone, have the dtype of `row`, or one of `dtypes`, and share
    bands with it, as chunk id and bits; only those that a repo of each of `scopes` has, as if there
    were no others. Whether they are related is for the caller to see.

    Those that share but one band are left out where others share more: chance makes them, and
    their rows, unlike the indexes of the bands, lie anywhere on the disk.
    """
    if row.kind is None:
        return []
    values = {f"v{name}": value for name, value in band_values(row.kind, row.bits).items()}
    with catalogue.reading() as connection:
        bands = _count_bands(connection, values, tuple(scopes))
        several = [chunk_id for chunk_id, count in bands.items() if count > 1]
        once = [chunk_id for chunk_id, count in bands.items() if count == 1]
        wanted = dtypes or (row.dtype,)
        return _read_bits(connection, several, wanted) or _read_bits(connection, once, wanted)


def find_deltas(
    catalogue: Database,
    chunk_ids: Collection[int],
    scopes: Sequence[Scope],
    dtypes: Collection[int],
) -> list[tuple[int, bytes]]:
    """Returns some of the deltas on these chunks that have one of `dtypes`, as chunk id and bits,
    the oldest first; only those that a repo of each of `scopes` has."""
    query = select(sketches.c.chunk_id, sketches.c.bits).where(sketches.c.dtype.in_(dtypes))
    query = query.join(chunks, chunks.c.id == sketches.c.chunk_id)
    if scopes:
        query = query.where(readable_in(tuple(scopes), sketches.c.chunk_id))
    found: list[tuple[int, bytes]] = []
    with catalogue.reading() as connection:
        for batch in batches(list(chunk_ids)):
            mine = query.where(dependent_of(_digests_of(batch), deltas=True))
            rows = connection.execute(mine.order_by(sketches.c.chunk_id).limit(_DELTAS_SEEN))
            found += [(row.chunk_id, row.bits) for row in rows]
    return found


def _count_bands(
    connection: Connection, values: dict[str, int | None], scopes: tuple[Scope, ...]
) -> dict[int, int]:
    """Returns how many bands chunks share, by their ids."""
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


@lru_cache(_QUERIES_KEPT)
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


def _read_bits(
    connection: Connection, chunk_ids: list[int], dtypes: Collection[int]
) -> list[tuple[int, bytes]]:
    query = select(sketches.c.chunk_id, sketches.c.bits).where(sketches.c.dtype.in_(dtypes))
    return [
        (row.chunk_id, row.bits)
        for batch in batches(chunk_ids)
        for row in connection.execute(query.where(sketches.c.chunk_id.in_(batch)))
    ]


def read_centres(
    catalogue: Database,
    chunk_ids: Collection[int],
    scopes: Sequence[Scope] = (),
    *,
    deltas: bool = False,
) -> dict[int, Centre]:
    """Returns what is known of these chunks; those that no commit needs (a repo of each of
    `scopes`, if any), or that are standalone no longer, are left out; with `deltas` only those of
    them that are derived."""
    holder = (_commit_in(scopes) if scopes else _commit_of_chunk()).label("holder")
    query = (
        select(sketches, chunks.c.digest, chunks.c.frame_bytes, holder)
        .join(chunks, chunks.c.id == sketches.c.chunk_id)
        .where(~is_derived() if deltas else is_standalone())
    )
    with catalogue.reading() as connection:
        rows = [
            row
            for batch in batches(list(chunk_ids))
            for row in connection.execute(query.where(sketches.c.chunk_id.in_(batch)))
        ]
        places = name_revisions(connection, {row.holder for row in rows if row.holder is not None})
    return {
        row.chunk_id: Centre(_sketch_row(row), row.frame_bytes, *places[row.holder])
        for row in rows
        if row.holder in places
    }


def _commit_in(scopes: Sequence[Scope]) -> Any:
    """The id of a commit of the first scope that needs the chunk, where all scopes have it."""
    held = (
        select(commits.c.id)
        .join(commit_chunks, commit_chunks.c.commit_id == commits.c.id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(commit_chunks.c.chunk_id == chunks.c.id)
        .where(scope_condition(scopes[0], commit_chunks.c.uses))
        .where(readable_in(scopes[1:], chunks.c.id))
    )
    return held.limit(1).correlate(chunks).scalar_subquery()


def _commit_of_chunk() -> Any:
    """The id of a commit that has the chunk, or else of one that needs it."""
    using = select(commit_chunks.c.commit_id)
    held = using.where(commit_chunks.c.chunk_id == chunks.c.id)
    found = (held, reaching(using, commit_chunks.c.chunk_id))
    first = (query.limit(1).correlate(chunks).scalar_subquery() for query in found)
    return func.coalesce(*first)


def name_revisions(
    connection: Connection, commit_ids: Collection[int]
) -> dict[int, tuple[str, str]]:
    """Returns the repo and commit id of each commit."""
    query = select(commits.c.id, repos.c.name, commits.c.oid).join(repos)
    return {
        row.id: (row.name, row.oid)
        for batch in batches(list(commit_ids))
        for row in connection.execute(query.where(commits.c.id.in_(batch)))
    }


def commit_with(catalogue: Database, chunk_id: int) -> tuple[bytes, str] | None:
    """Returns a chunk's digest and the name of a manifest that has it, if there is one."""
    query = (
        select(chunks.c.digest, commits.c.manifest)
        .join(commit_chunks, commit_chunks.c.chunk_id == chunks.c.id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .where(chunks.c.id == chunk_id)
        .limit(1)
    )
    with catalogue.reading() as connection:
        row = connection.execute(query).first()
    return (row.digest, row.manifest) if row else None


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """A chunk with all that planning needs: its sketch (None where it is lost), its frame, and
    whether some commit needs it."""

    chunk_id: int
    sketch: SketchRow | None
    place: Location
    codec: int
    planned: int | None
    live: bool


def list_centres(catalogue: Database, after: int, limit: int, *, uncoded: int) -> list[FamilyRow]:
    """Returns chunks that are standalone and have a telling sketch or a frame of the codec
    `uncoded`, by chunk id from `after` on."""
    query = _family_query().where(*_may_lead(uncoded))
    return _list_rows(catalogue, query, after, limit)


def count_centres(catalogue: Database, *, uncoded: int) -> int:
    """Returns how many chunks list_centres would list without a limit."""
    query = select(func.count()).select_from(chunks.join(sketches)).where(*_may_lead(uncoded))
    with catalogue.reading() as connection:
        return connection.execute(query).scalar_one()


def _may_lead(uncoded: int) -> tuple[Any, ...]:
    worth = sketches.c.kind.is_not(None) | (chunks.c.codec == uncoded)
    return sketches.c.chunk_id.is_not(None), worth, is_standalone()


def list_newcomers(
    catalogue: Database,
    repo: str,
    oid: str,
    after: int,
    limit: int,
    scope: Scope = EVERYTHING,
) -> list[FamilyRow]:
    """Returns the chunks with a telling sketch that no commit of a repo of `scope` had before the
    one of this id, by chunk id from `after` on."""
    before = _had_before(commit_chunks.c.commit_id, scope).correlate(chunks, commit_chunks)
    query = (
        _family_query()
        .join(commit_chunks, commit_chunks.c.chunk_id == chunks.c.id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(repos.c.name == repo, commits.c.oid == oid)
        .where(sketches.c.kind.is_not(None), ~is_derived(), ~before)
    )
    return _list_rows(catalogue, query, after, limit)


def _had_before(commit_id: Any, scope: Scope) -> Any:
    earlier = commit_chunks.alias("earlier")
    had = select(earlier.c.chunk_id).where(
        earlier.c.chunk_id == chunks.c.id, earlier.c.commit_id < commit_id
    )
    if not scope.everything:
        named = had.join(commits, commits.c.id == earlier.c.commit_id).join(repos)
        had = named.where(scope_condition(scope, earlier.c.uses))
    return had.exists()


def _list_rows(catalogue: Database, query: Any, after: int, limit: int) -> list[FamilyRow]:
    page = query.where(chunks.c.id > after).order_by(chunks.c.id).limit(limit)
    with catalogue.reading() as connection:
        return [_family_row(row) for row in connection.execute(page)]


def find_ids(catalogue: Database, digests: Collection[bytes]) -> set[int]:
    """Returns the ids of the chunks of these digests that are recorded."""
    with catalogue.reading() as connection:
        query = select(chunks.c.id, chunks.c.digest)
        return {row.id for row in by_digest(connection, query, digests)}


def count_arrived(catalogue: Database, centres: Collection[int], until: int) -> int:
    """Returns how many of a family's chunks, `centres` and the deltas on them, were recorded up to
    the one of the id `until`, itself included."""
    with catalogue.reading() as connection:
        counts = (
            connection.execute(select(func.count()).select_from(chunks).where(condition)).scalar()
            for batch in batches(list(centres))
            for condition in (
                chunks.c.id.in_(batch) & (chunks.c.id <= until),
                dependent_of(_digests_of(batch), deltas=True) & (chunks.c.id <= until),
            )
        )
        return sum(count or 0 for count in counts)


def read_family(catalogue: Database, chunk_ids: Collection[int]) -> list[FamilyRow]:
    """Returns the chunks of these ids and all deltas on them."""
    with catalogue.reading() as connection:
        rows = {}
        for batch in batches(list(chunk_ids)):
            mine = chunks.c.id.in_(batch) | dependent_of(_digests_of(batch), deltas=True)
            for row in connection.execute(_family_query().where(mine)):
                rows[row.chunk_id] = _family_row(row)
    return list(rows.values())


def _digests_of(chunk_ids: list[int]) -> Any:
    named = chunks.alias("named")
    return select(named.c.digest).where(named.c.id.in_(chunk_ids))


def mark_planned(catalogue: Database, chunk_id: int, fingerprint: int) -> None:
    """Notes that the family around a chunk, as `fingerprint` has it, has no better plan."""
    mine = sketches.c.chunk_id == chunk_id
    with catalogue.writing() as connection:
        connection.execute(update(sketches).where(mine).values(planned=fingerprint))


def _is_live() -> Any:
    """Whether a commit has the chunk, or has what needs it."""
    using = commit_chunks.alias("using")
    return needed_among(select(using.c.chunk_id), using.c.chunk_id)


def _family_query() -> Any:
    known = sketches.c
    place = (chunks.c.offset, chunks.c.frame_bytes, chunks.c.raw_bytes, *edge_columns())
    return select(
        *(chunks.c.id.label("chunk_id"), chunks.c.digest, packs.c.name.label("pack"), *place),
        *(chunks.c.codec, _is_live().label("live")),
        *(known.kind, known.dtype, known.bits, known.words, known.planned),
    ).select_from(
        chunks.join(packs).outerjoin(sketches, known.chunk_id == chunks.c.id),
    )


def _family_row(row: Any) -> FamilyRow:
    lies = (row.digest, row.pack, row.offset, row.frame_bytes, row.raw_bytes)
    place = Location(*lies, row.inputs, row.level)
    sketch = None if row.bits is None else _sketch_row(row)
    return FamilyRow(row.chunk_id, sketch, place, row.codec, row.planned, row.live)


def _sketch_row(row: Any) -> SketchRow:
    return SketchRow(row.digest, row.kind, row.dtype, row.raw_bytes, row.bits, row.words)

"""What the catalogue knows of chunks that others are like, and of families (`near` finds them)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, union_all, update

from ..edges import (
    dependent_of,
    dependents_of,
    edge_columns,
    is_derived,
    is_standalone,
    join_inputs,
    needed_among,
    reaching,
)
from ..owners import readable_in, used_in
from ..tables.database import Database
from ..tables.rows import Location, SketchRow, batches, by_digest
from ..tables.schema import chunks, commit_chunks, commits, packs, repos, sketches
from ..visibility import EVERYTHING, Scope
from .near import QUERIES_KEPT


@dataclass(frozen=True, slots=True)
class Centre:
    """A chunk that is standalone: its sketch, and a revision through which it can be read."""

    sketch: SketchRow
    frame_bytes: int
    repo: str
    revision: str


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
    query = _centre_query(tuple(scopes), deltas)
    with catalogue.reading() as connection:
        rows = [
            row
            for batch in batches(list(chunk_ids))
            for row in connection.execute(query, {"ids": batch})
        ]
        places = name_revisions(connection, {row.holder for row in rows if row.holder is not None})
    return {
        row.chunk_id: Centre(_sketch_row(row), row.frame_bytes, *places[row.holder])
        for row in rows
        if row.holder in places
    }


@lru_cache(QUERIES_KEPT)
def _centre_query(scopes: tuple[Scope, ...], deltas: bool) -> Any:
    holder = (_commit_in(scopes) if scopes else _commit_of_chunk()).label("holder")
    return (
        select(sketches, chunks.c.digest, chunks.c.frame_bytes, holder)
        .join(chunks, chunks.c.id == sketches.c.chunk_id)
        .where(~is_derived() if deltas else is_standalone())
        .where(sketches.c.chunk_id.in_(bindparam("ids", expanding=True)))
    )


def _commit_in(scopes: Sequence[Scope]) -> Any:
    """The id of a commit of the first scope that needs the chunk, where all scopes have it."""
    held = (
        select(commit_chunks.c.commit_id)
        .where(commit_chunks.c.chunk_id == chunks.c.id)
        .where(used_in(scopes[0], commit_chunks))
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


_REVISIONS = (
    select(commits.c.id, repos.c.name, commits.c.oid)
    .join(repos)
    .where(commits.c.id.in_(bindparam("ids", expanding=True)))
)


def name_revisions(
    connection: Connection, commit_ids: Collection[int]
) -> dict[int, tuple[str, str]]:
    """Returns the repo and commit id of each commit."""
    return {
        row.id: (row.name, row.oid)
        for batch in batches(list(commit_ids))
        for row in connection.execute(_REVISIONS, {"ids": batch})
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
        had = had.where(used_in(scope, earlier))
    return had.exists()


def _list_rows(catalogue: Database, query: Any, after: int, limit: int) -> list[FamilyRow]:
    page = query.where(chunks.c.id > after).order_by(chunks.c.id).limit(limit)
    with catalogue.reading() as connection:
        return [_family_row(row) for row in connection.execute(page)]


def find_ids(catalogue: Database, digests: Collection[bytes]) -> set[int]:
    """Returns the ids of the chunks of these digests that are recorded."""
    return set(ids_by_digest(catalogue, digests).values())


def ids_by_digest(catalogue: Database, digests: Collection[bytes]) -> dict[bytes, int]:
    """Returns the ids of the chunks of these digests that are recorded, by digest."""
    with catalogue.reading() as connection:
        query = select(chunks.c.id, chunks.c.digest)
        return {row.digest: row.id for row in by_digest(connection, query, digests)}


def count_deltas(catalogue: Database, chunk_ids: Collection[int]) -> dict[int, int]:
    """Returns how many deltas are on those of these chunks that have any."""
    pairs, source = join_inputs()
    query = select(source.c.id, func.count().label("deltas")).select_from(pairs)
    query = query.where(~is_derived()).group_by(source.c.id)
    with catalogue.reading() as connection:
        return {
            row.id: row.deltas
            for batch in batches(list(chunk_ids))
            for row in connection.execute(query.where(source.c.id.in_(batch)))
        }


def count_arrived(catalogue: Database, centres: Collection[int], until: int) -> int:
    """Returns how many of a family's chunks, `centres` and the deltas that rest on them, were
    recorded up to the one of the id `until`, itself included."""
    with catalogue.reading() as connection:
        counts = (
            connection.execute(select(func.count()).select_from(chunks).where(condition)).scalar()
            for batch in batches(list(centres))
            for condition in (
                chunks.c.id.in_(batch) & (chunks.c.id <= until),
                _rests_on(_digests_of(batch)) & (chunks.c.id <= until),
            )
        )
        return sum(count or 0 for count in counts)


def read_family(catalogue: Database, chunk_ids: Collection[int]) -> list[FamilyRow]:
    """Returns the chunks of these ids and all deltas on them."""
    with catalogue.reading() as connection:
        rows = {}
        for batch in batches(list(chunk_ids)):
            for row in connection.execute(_members_query(), {"ids": batch}):
                rows[row.chunk_id] = _family_row(row)
    return list(rows.values())


def read_trees(catalogue: Database, chunk_ids: Collection[int]) -> list[FamilyRow]:
    """Returns the chunks of these ids and all deltas that rest on them, directly or not."""
    with catalogue.reading() as connection:
        rows = {}
        for batch in batches(list(chunk_ids)):
            for row in connection.execute(_trees_query(), {"ids": batch}):
                rows[row.chunk_id] = _family_row(row)
    return list(rows.values())


@cache
def _trees_query() -> Any:
    ids = bindparam("ids", expanding=True)
    return _family_query().where(chunks.c.id.in_(ids) | _rests_on(_digests_of(ids)))


def _rests_on(digests: Any) -> Any:
    """The condition that a row of `chunks` is a delta that needs one of `digests`, directly or
    not."""
    return chunks.c.id.in_(dependents_of(digests)) & ~is_derived()


@cache
def _members_query() -> Any:
    """Two look-ups: either of two conditions would be asked of every chunk there is."""
    ids = bindparam("ids", expanding=True)
    deltas = dependent_of(_digests_of(ids), deltas=True)
    return union_all(_family_query().where(chunks.c.id.in_(ids)), _family_query().where(deltas))


def _digests_of(chunk_ids: Any) -> Any:
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

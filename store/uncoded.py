"""The queue of chunks that were stored as they came and wait to be coded (dedup/uncoded.py)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, update

from .catalogue import Catalogue
from .needs import hold_store
from .rows import CommitRow, batches, by_digest, commit_columns
from .schema import chunks, commit_chunks, commits, uncoded
from .sketches import FamilyRow, read_family


def queue_chunks(catalogue: Catalogue, digests: Collection[bytes]) -> None:
    """Lets chunks wait to be coded."""
    with catalogue.writing() as connection:
        hold_store(connection)
        query = select(chunks.c.id)
        rows = [{"chunk_id": r.id, "claimed": 0.0} for r in by_digest(connection, query, digests)]
        catalogue.add_once(connection, uncoded, rows)


def queue_codec(catalogue: Catalogue, codec: int) -> None:
    """Lets all chunks whose frame in use is of that codec wait to be coded: for a catalogue built
    anew, which does not know what had been tried."""
    with catalogue.writing() as connection:
        hold_store(connection)
        found = connection.scalars(select(chunks.c.id).where(chunks.c.codec == codec))
        rows = [{"chunk_id": i, "claimed": 0.0} for i in found]
        for batch in batches(rows):
            catalogue.add_once(connection, uncoded, batch)


def count_uncoded(catalogue: Catalogue) -> int:
    """Returns how many chunks that a commit needs wait."""
    with catalogue.reading() as connection:
        query = select(func.count()).select_from(uncoded).where(_committed())
        return int(connection.scalar(query) or 0)


def claim_chunks(
    catalogue: Catalogue, now: float, until: float, limit: int, most_bytes: int
) -> list[FamilyRow]:
    """Returns the chunks that have waited longest, at most `limit` and `most_bytes` raw bytes of
    them but for a single one; nobody else is given them before `until` (Unix seconds).

    Only chunks that a commit needs: what else there is may never be.
    """
    query = (
        select(uncoded.c.chunk_id, chunks.c.raw_bytes)
        .join(chunks, chunks.c.id == uncoded.c.chunk_id)
        .where(uncoded.c.claimed <= now, _committed())
        .order_by(uncoded.c.chunk_id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=uncoded)
    )
    with catalogue.writing() as connection:
        ids: list[int] = []
        total = 0
        for row in connection.execute(query):
            total += row.raw_bytes
            if ids and total > most_bytes:
                break
            ids.append(row.chunk_id)
        _claim(connection, ids, until)
    rows = {row.chunk_id: row for row in read_family(catalogue, ids)}
    return [rows[i] for i in ids if i in rows]


def first_commits(catalogue: Catalogue, chunk_ids: Collection[int]) -> dict[int, CommitRow]:
    """Returns for each chunk the commit that was the first to have it."""
    first = func.min(commit_chunks.c.commit_id).label("commit_id")
    query = select(commit_chunks.c.chunk_id, first).group_by(commit_chunks.c.chunk_id)
    with catalogue.reading() as connection:
        found = {
            row.chunk_id: row.commit_id
            for batch in batches(list(chunk_ids))
            for row in connection.execute(query.where(commit_chunks.c.chunk_id.in_(batch)))
        }
        rows = {
            commit_id: CommitRow(*row)
            for batch in batches(list(set(found.values())))
            for *row, commit_id in connection.execute(
                commit_columns(commits.c.id).where(commits.c.id.in_(batch))
            )
        }
    return {chunk_id: rows[commit_id] for chunk_id, commit_id in found.items()}


def release_chunks(catalogue: Catalogue, chunk_ids: Collection[int]) -> None:
    """Takes chunks out of the queue."""
    with catalogue.writing() as connection:
        hold_store(connection)
        for batch in batches(list(chunk_ids)):
            connection.execute(delete(uncoded).where(uncoded.c.chunk_id.in_(batch)))


def return_chunks(catalogue: Catalogue, chunk_ids: Collection[int]) -> None:
    """Gives chunks that were claimed back to the queue, for anybody to take."""
    with catalogue.writing() as connection:
        _claim(connection, list(chunk_ids), 0.0)


def waiting_among(catalogue: Catalogue, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that wait to be coded."""
    waits = exists().where(uncoded.c.chunk_id == chunks.c.id)
    with catalogue.reading() as connection:
        query = select(chunks.c.digest).where(waits)
        return {row.digest for row in by_digest(connection, query, digests)}


def bases_among(catalogue: Catalogue, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that deltas are on: they have to stand alone."""
    query = select(chunks.c.base)
    with catalogue.reading() as connection:
        return {row.base for row in by_digest(connection, query, digests, chunks.c.base)}


def _committed() -> Any:
    return exists().where(commit_chunks.c.chunk_id == uncoded.c.chunk_id)


def _claim(connection: Connection, ids: list[int], until: float) -> None:
    for batch in batches(list(ids)):
        mine = uncoded.c.chunk_id.in_(batch)
        connection.execute(update(uncoded).where(mine).values(claimed=until))

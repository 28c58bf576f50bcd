"""The queue of chunks that were stored as they came and wait to be coded
(dedup/maintenance/background_encode.py)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, update

from ...packs import DERIVED
from ..dependencies import hold_readers, hold_store
from ..edges import has_inputs, read_dependents
from ..owners import (
    Sharing,
    allowed_among,
    audit_bases,
    forget_audit,
    needs_audit,
    read_holdings,
    sharing_of,
    violating_among,
)
from ..sketches.sketches import FamilyRow, read_family
from ..tables.database import Database
from ..tables.rows import CommitRow, batches, by_digest, commit_columns
from ..tables.schema import chunks, commit_chunks, commits, uncoded


def queue_chunks(catalogue: Database, digests: Collection[bytes]) -> None:
    """Lets chunks wait to be coded."""
    with catalogue.writing() as connection:
        hold_store(connection)
        query = select(chunks.c.id)
        rows = [{"chunk_id": r.id, "claimed": 0.0} for r in by_digest(connection, query, digests)]
        catalogue.add_once(connection, uncoded, rows)


def queue_codec(catalogue: Database, codec: int) -> None:
    """Lets all chunks whose frame in use is of that codec wait to be coded: for a catalogue built
    anew, which does not know what had been tried."""
    with catalogue.writing() as connection:
        hold_store(connection)
        found = connection.scalars(select(chunks.c.id).where(chunks.c.codec == codec))
        rows = [{"chunk_id": i, "claimed": 0.0} for i in found]
        for batch in batches(rows):
            catalogue.add_once(connection, uncoded, batch)


@dataclass(frozen=True, slots=True)
class Ownership:
    """The namespaces that have a chunk, whether a public repo has it (`shown`), and whether it
    `violates` the rule of owners.py: its frame in use is a delta on what some reader may not
    read."""

    owners: frozenset[str] = frozenset()
    shown: bool = False
    violates: bool = False


def read_ownership(catalogue: Database, chunk_ids: Collection[int]) -> dict[int, Ownership]:
    """Returns whose chunks are; all nobody's where anything may be coded against anything."""
    with catalogue.reading() as connection:
        if sharing_of(connection) is Sharing.FREE:
            return {chunk_id: Ownership() for chunk_id in chunk_ids}
        violating = violating_among(connection, chunk_ids)
        return {
            chunk_id: Ownership(frozenset(holding.owners), holding.shown, chunk_id in violating)
            for chunk_id, holding in read_holdings(connection, chunk_ids).items()
        }


def allowed_bases(catalogue: Database, chunk_id: int, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that a chunk may be coded against."""
    if not digests:
        return set()
    with catalogue.reading() as connection:
        return allowed_among(connection, chunk_id, digests)


def audit_some(catalogue: Database, limit: int) -> int:
    """Queues what the rule of owners.py does not allow among the next `limit` deltas that were
    there before it held; returns how many it looked at, 0 when all were."""
    with catalogue.reading() as connection:
        if not needs_audit(connection):
            return 0
    with catalogue.writing() as connection:
        hold_readers(connection)
        return audit_bases(connection, limit)


def audit_again(catalogue: Database) -> None:
    """Lets audit_some begin with the first chunk."""
    with catalogue.writing() as connection:
        forget_audit(connection)


def count_uncoded(catalogue: Database) -> int:
    """Returns how many chunks that a commit needs wait."""
    with catalogue.reading() as connection:
        query = select(func.count()).select_from(uncoded).where(_committed())
        return int(connection.scalar(query) or 0)


def claim_chunks(
    catalogue: Database, now: float, until: float, limit: int, most_bytes: int
) -> list[FamilyRow]:
    """Returns the chunks that have waited longest, at most `limit` and `most_bytes` raw bytes of
    them but for a single one; nobody else is given them before `until` (Unix seconds).

    Only chunks that a commit needs, as what else there is may never be, and deltas: those wait
    because somebody should not have them.
    """
    with catalogue.writing() as connection:
        # Those that nobody was at and those whose claims ran out are two look-ups in one index.
        fresh = connection.execute(_waiting(uncoded.c.claimed == 0.0, limit)).all()
        expired = (uncoded.c.claimed > 0.0) & (uncoded.c.claimed <= now)
        left = connection.execute(_waiting(expired, limit)).all()
        ids: list[int] = []
        total = 0
        for row in sorted([*fresh, *left], key=lambda row: row.chunk_id)[:limit]:
            total += row.raw_bytes
            if ids and total > most_bytes:
                break
            ids.append(row.chunk_id)
        _claim(connection, ids, until)
    rows = {row.chunk_id: row for row in read_family(catalogue, ids)}
    return [rows[i] for i in ids if i in rows]


def first_commits(catalogue: Database, chunk_ids: Collection[int]) -> dict[int, CommitRow]:
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


def release_chunks(catalogue: Database, chunk_ids: Collection[int]) -> None:
    """Takes chunks out of the queue, but those whose frame in use some owner should not have: one
    came while it was encoded, so these wait again."""
    with catalogue.writing() as connection:
        hold_readers(connection)
        hold_store(connection)
        again = violating_among(connection, chunk_ids)
        _claim(connection, sorted(again), 0.0)
        for batch in batches(sorted(set(chunk_ids) - again)):
            connection.execute(delete(uncoded).where(uncoded.c.chunk_id.in_(batch)))


def return_chunks(catalogue: Database, chunk_ids: Collection[int]) -> None:
    """Gives chunks that were claimed back to the queue, for anybody to take."""
    with catalogue.writing() as connection:
        _claim(connection, list(chunk_ids), 0.0)


def waiting_among(catalogue: Database, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that wait to be coded."""
    waits = exists().where(uncoded.c.chunk_id == chunks.c.id)
    with catalogue.reading() as connection:
        query = select(chunks.c.digest).where(waits)
        return {row.digest for row in by_digest(connection, query, digests)}


def bases_among(catalogue: Database, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that deltas are on: they have to be standalone."""
    with catalogue.reading() as connection:
        return {d.input for d in read_dependents(connection, digests) if d.level < DERIVED}


def _waiting(condition: Any, limit: int) -> Any:
    """Selects chunks that wait and may be encoded, the first ones first. What is asked of each is a
    value and no join, which a planner would begin with all chunks."""
    mine = chunks.c.id == uncoded.c.chunk_id
    raw_bytes = select(chunks.c.raw_bytes).where(mine).scalar_subquery()
    delta = select(has_inputs()).where(mine).scalar_subquery()
    used = select(commit_chunks.c.chunk_id).where(commit_chunks.c.chunk_id == uncoded.c.chunk_id)
    committed = used.limit(1).scalar_subquery().is_not(None)
    return (
        select(uncoded.c.chunk_id, raw_bytes.label("raw_bytes"))
        .where(condition, committed | delta)
        .order_by(uncoded.c.chunk_id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=uncoded)
    )


def _committed() -> Any:
    return exists().where(commit_chunks.c.chunk_id == uncoded.c.chunk_id)


def _claim(connection: Connection, ids: list[int], until: float) -> None:
    for batch in batches(list(ids)):
        mine = uncoded.c.chunk_id.in_(batch)
        connection.execute(update(uncoded).where(mine).values(claimed=until))

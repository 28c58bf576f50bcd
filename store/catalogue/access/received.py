"""What somebody who may not read every repo may name: chunks of repos that they may read, and those
whose bytes they have sent themselves (dedup/transfer/namespaced_vault.py)."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, select

from ..dependencies import hold_store
from ..owners import Sharing, sharing_of
from ..tables.database import Database
from ..tables.rows import batches, by_digest
from ..tables.schema import chunks, commit_chunks, commits, received, repos
from ..visibility import Scope


def readable_through(
    catalogue: Database, digests: Collection[bytes], scope: Scope
) -> dict[bytes, tuple[str, str]]:
    """Returns for those of `digests` that repos of the scope have one such repo and its commit."""
    holder = (
        select(commits.c.id)
        .join(commit_chunks, commit_chunks.c.commit_id == commits.c.id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(commit_chunks.c.chunk_id == chunks.c.id, scope.condition())
        .limit(1)
        .correlate(chunks)
        .scalar_subquery()
    )
    with catalogue.reading() as connection:
        query = select(chunks.c.digest, holder.label("holder"))
        held = {r.digest: r.holder for r in by_digest(connection, query, digests) if r.holder}
        named = select(commits.c.id, repos.c.name, commits.c.oid).join(repos)
        places = {
            row.id: (row.name, row.oid)
            for batch in batches(list(set(held.values())))
            for row in connection.execute(named.where(commits.c.id.in_(batch)))
        }
    return {digest: places[commit_id] for digest, commit_id in held.items()}


def unknown_to(
    catalogue: Database, digests: Collection[bytes], owners: Collection[str]
) -> set[bytes]:
    """Returns those of `digests` that some of these namespaces may not read, in their own repos or
    public ones; none where everybody reads everything."""
    with catalogue.reading() as connection:
        if sharing_of(connection) is Sharing.FREE:
            return set()
    found: set[bytes] = set()
    for owner in owners:
        scope = Scope((owner,), public=True)
        found |= set(digests) - readable_through(catalogue, digests, scope).keys()
    return found


def note_received(
    catalogue: Database, namespace: str, digests: Collection[bytes], now: float, forget: float
) -> None:
    """Records that chunks were sent for a namespace; what was sent for any before `forget` (Unix
    seconds, both) is struck off."""
    with catalogue.writing() as connection:
        hold_store(connection)
        connection.execute(delete(received).where(received.c.at < forget))
        query = select(chunks.c.id)
        rows = [
            {"namespace": namespace, "chunk_id": row.id, "at": now}
            for row in by_digest(connection, query, sorted(digests))
        ]
        catalogue.add_once(connection, received, rows)


def forget_received(catalogue: Database, before: float) -> None:
    """Strikes off what was sent before a moment (Unix seconds): a collection may have taken it. It
    leaves what others have, too, and the record must not tell which that is."""
    with catalogue.writing() as connection:
        hold_store(connection)
        connection.execute(delete(received).where(received.c.at < before))


def received_among(
    catalogue: Database, namespace: str, digests: Collection[bytes], since: float
) -> set[bytes]:
    """Returns those of `digests` that were sent for a namespace from `since` (Unix seconds) on and
    are on record still."""
    query = (
        select(chunks.c.digest)
        .join(received, received.c.chunk_id == chunks.c.id)
        .where(received.c.namespace == namespace, received.c.at >= since)
    )
    with catalogue.reading() as connection:
        return {row.digest for row in by_digest(connection, query, digests)}


def strike_received(catalogue: Database, namespace: str, digests: Collection[bytes]) -> None:
    """Takes chunks off the record: a repo of the namespace has them now."""
    with catalogue.writing() as connection:
        hold_store(connection)
        for batch in batches(list(digests)):
            named = select(chunks.c.id).where(chunks.c.digest.in_(batch))
            mine = (received.c.namespace == namespace) & received.c.chunk_id.in_(named)
            connection.execute(delete(received).where(mine))

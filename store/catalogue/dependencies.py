"""What needs what: the conditions by which frames are kept, sent again or given up.

A frame is *live* while a commit or an upload that has not expired uses its chunk, or uses a delta
whose base it is. It is *unusable* while a scrub has it on record as damaged, or its base has no
frame, an unusable one, or one that is a delta itself: readers go no deeper. That last happens to
nothing live, but to a delta that was sent and not committed yet, when a collection takes the frame
by which its base stood alone and leaves another.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select

from ..object_keys import known_pack_key
from .owners import Sharing, allowed_among, sharing_of
from .spare_frames import swap
from .tables.rows import by_digest, hold_rows
from .tables.schema import chunks, commit_chunks, damage, loose_chunks, spares, tombstones

# Transactions that come to rely on what is stored hold this lock together, those that take
# something away hold it alone: so a collection sees every commit that got ahead of it, and every
# commit sees what a collection took. The number is arbitrary but fixed; SQLite has one writer at a
# time anyway.
_STORE_LOCK = 7_236_190_451


def hold_store(connection: Connection, *, alone: bool = False) -> None:
    """Takes the lock described above until the transaction ends (PostgreSQL)."""
    if connection.dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
        connection.execute(select(lock(_STORE_LOCK)))


def hold_readers(connection: Connection) -> None:
    """Lets nobody come to rely on what somebody is about to lose sight of, until the transaction
    ends: where bases go by who may read them (PostgreSQL)."""
    if sharing_of(connection) is not Sharing.FREE:
        hold_store(connection, alone=True)


def lift_pack(connection: Connection, name: str) -> None:
    """Takes the tombstone of a pack away, which is there (again)."""
    connection.execute(delete(tombstones).where(tombstones.c.key == known_pack_key(name)))


def is_live(rows: Any = chunks) -> Any:
    """The condition that a row of `chunks` is live."""
    delta = chunks.alias("needing")
    used = exists().where(commit_chunks.c.chunk_id == rows.c.id)
    holding = exists().where(delta.c.base == rows.c.digest, commit_chunks.c.chunk_id == delta.c.id)
    loose = exists().where(loose_chunks.c.chunk_id == rows.c.id)
    under = exists().where(delta.c.base == rows.c.digest, loose_chunks.c.chunk_id == delta.c.id)
    return used | holding | loose | under


def is_usable(frames: Any = chunks) -> Any:
    """The condition that a row of `chunks` or `spares` can be read, as far as anybody knows."""
    base = chunks.alias("its_base")
    sound = base.c.base.is_(None) & ~_is_damaged(base)
    intact = exists().where(base.c.digest == frames.c.base, sound)
    return ~_is_damaged(frames) & (frames.c.base.is_(None) | intact)


def _is_damaged(frames: Any) -> Any:
    same = (damage.c.pack_id == frames.c.pack_id) & (damage.c.offset == frames.c.offset)
    return exists().where(same)


def usable_among(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that have a frame that can be read."""
    query = select(chunks.c.digest).where(is_usable())
    return {row.digest for row in by_digest(connection, query, digests)}


def replace_unusable(connection: Connection, digests: Collection[bytes]) -> list[bytes]:
    """Puts a spare frame in use for those of `digests` whose own cannot be read; returns them."""
    replaced: list[bytes] = []
    # A base that stands alone again makes frames usable that were not.
    while found := _replace_once(connection, digests):
        replaced += found
    return replaced


def _replace_once(connection: Connection, digests: Collection[bytes]) -> list[bytes]:
    # Whoever else replaces one of them waits (PostgreSQL), all in one order.
    held = hold_rows(select(chunks).where(~is_usable()).order_by(chunks.c.digest))
    broken = list(by_digest(connection, held, sorted(set(digests))))
    replaced = []
    for chunk in broken:
        spare = _best_spare(connection, chunk)
        if spare is not None:
            swap(connection, chunk, spare)
            replaced.append(chunk.digest)
    return replaced


def _best_spare(connection: Connection, chunk: Any) -> Any:
    fit = select(spares).where(spares.c.chunk_id == chunk.id, is_usable(spares))
    # One that stands alone first: deltas may be made against it.
    order = (spares.c.base.is_not(None), spares.c.frame_bytes)
    found = connection.execute(fit.order_by(*order)).all()
    possible = [spare for spare in found if _may_use(connection, chunk, spare)]
    if len(possible) < 2 or possible[0].base is None:
        return possible[0] if possible else None
    allowed = allowed_among(connection, chunk.id, {spare.base for spare in possible})
    # A frame that its owners should not have is better than none, until it is encoded again.
    return next((spare for spare in possible if spare.base in allowed), possible[0])


def _may_use(connection: Connection, chunk: Any, spare: Any) -> bool:
    """Deltas stay one deep: what others are coded against cannot become one, nor can a delta be
    what the spare frame is coded against."""
    if spare.base is None:
        return True
    on_chunk = select(chunks.c.id).where(chunks.c.base == chunk.digest).limit(1)
    its_base = select(chunks.c.id).where(chunks.c.digest == spare.base, chunks.c.base.is_(None))
    return (
        connection.execute(on_chunk).first() is None
        and connection.execute(its_base).first() is not None
    )


def stranded_among(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns the deltas among `digests` whose base has no frame, or none of its own."""
    base = chunks.alias("its_base")
    alone = exists().where(base.c.digest == chunks.c.base, base.c.base.is_(None))
    query = select(chunks.c.digest).where(chunks.c.base.is_not(None), ~alone)
    return {row.digest for row in by_digest(connection, query, digests)}


def hold_bases(connection: Connection, digests: Collection[bytes]) -> bool:
    """Says whether each delta among `digests` has a base to be read with, having put spare frames
    in use where that helps."""
    stranded = stranded_among(connection, digests)
    if stranded:
        replace_unusable(connection, {*stranded, *_bases_of(connection, stranded)})
    return not stranded or not stranded_among(connection, digests)


def _bases_of(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    edges = select(chunks.c.base).where(chunks.c.base.is_not(None))
    return {row.base for row in by_digest(connection, edges, digests)}

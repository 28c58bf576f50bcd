"""Which frames are kept, sent again or given up, by what needs what (edges.py).

A frame is *live* while a commit or an upload that has not expired uses its chunk, or a chunk whose
frame needs it, directly or not. It is *unusable* while a scrub has it on record as damaged, or one
of its inputs has no frame, an unusable one, or one of a level that is not below its own: readers go
no deeper. That last happens to nothing live, but to a delta that was sent and not committed yet,
when a collection takes the frame by which its base was standalone and leaves another.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select

from ..object_keys import known_pack_key
from .edges import (
    inputs_closure,
    is_complete,
    least_dependent_level,
    levels_of,
    lowest_first,
    needed_among,
)
from .owners import Sharing, allowed_among, sharing_of
from .spare_frames import swap
from .tables.rows import by_digest, hold_rows
from .tables.schema import chunks, commit_chunks, damage, loose_chunks, spares, tombstones

# Transactions that come to rely on what is stored share this lock, those that take something away
# hold it exclusively: so a collection sees every commit that got ahead of it, and every
# commit sees what a collection took. The number is arbitrary but fixed; SQLite has one writer at a
# time anyway.
_STORE_LOCK = 7_236_190_451


def hold_store(connection: Connection, *, exclusive: bool = False) -> None:
    """Takes the lock described above until the transaction ends (PostgreSQL)."""
    if connection.dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock if exclusive else func.pg_advisory_xact_lock_shared
        connection.execute(select(lock(_STORE_LOCK)))


def hold_readers(connection: Connection) -> None:
    """Lets nobody come to rely on what somebody is about to lose sight of, until the transaction
    ends: where bases go by who may read them (PostgreSQL)."""
    if sharing_of(connection) is not Sharing.FREE:
        hold_store(connection, exclusive=True)


def lift_pack(connection: Connection, name: str) -> None:
    """Takes the tombstone of a pack away, which is there (again)."""
    connection.execute(delete(tombstones).where(tombstones.c.key == known_pack_key(name)))


def is_live(rows: Any = chunks) -> Any:
    """The condition that a row of `chunks` is live."""
    committed = needed_among(select(commit_chunks.c.chunk_id), commit_chunks.c.chunk_id, rows)
    return committed | needed_among(select(loose_chunks.c.chunk_id), loose_chunks.c.chunk_id, rows)


def is_usable(rows: Any = chunks) -> Any:
    """The condition that a row of `chunks` can be read, as far as anybody knows."""
    return is_complete(rows, _is_damaged)


def _is_damaged(frames: Any) -> Any:
    same = (damage.c.pack_id == frames.c.pack_id) & (damage.c.offset == frames.c.offset)
    return exists().where(same).correlate(frames)


def usable_among(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that have a frame that can be read."""
    query = select(chunks.c.digest).where(is_usable())
    return {row.digest for row in by_digest(connection, query, digests)}


def replace_unusable(connection: Connection, digests: Collection[bytes]) -> list[bytes]:
    """Puts a spare frame in use for those of `digests` whose own cannot be read; returns them."""
    replaced: list[bytes] = []
    # A base that is standalone again makes frames usable that were not.
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
    mine = select(spares).where(spares.c.chunk_id == chunk.id, ~_is_damaged(spares))
    # A standalone one first: anything may need it.
    found = connection.execute(mine.order_by(*lowest_first(spares))).all()
    possible = [spare for spare in found if _may_use(connection, chunk, spare)]
    if len(possible) < 2 or not possible[0].inputs:
        return possible[0] if possible else None
    allowed = allowed_among(connection, chunk.id, {d for spare in possible for d in spare.inputs})
    # A frame that its owners should not have is better than none, until it is encoded again.
    return next((s for s in possible if allowed.issuperset(s.inputs)), possible[0])


def _may_use(connection: Connection, chunk: Any, spare: Any) -> bool:
    """Says whether a spare frame has a level below all that need the chunk, and above all that it
    needs, which can be read."""
    if not spare.inputs:
        return True
    if least_dependent_level(connection, chunk.digest) <= spare.level:
        return False
    usable = usable_among(connection, spare.inputs)
    levels = levels_of(connection, usable)
    return all(levels.get(digest, spare.level) < spare.level for digest in spare.inputs)


def stranded_among(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` whose frames need what has no frame, or none of a lower level."""
    query = select(chunks.c.digest).where(~is_complete())
    return {row.digest for row in by_digest(connection, query, digests)}


def hold_inputs(connection: Connection, digests: Collection[bytes]) -> bool:
    """Says whether all that the frames of `digests` need is there to read them with, having put
    spare frames in use where that helps."""
    stranded = stranded_among(connection, digests)
    if stranded:
        replace_unusable(connection, {*stranded, *inputs_closure(connection, stranded)})
    return not stranded or not stranded_among(connection, digests)

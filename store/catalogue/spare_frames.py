"""Several frames of one chunk: the one in use is in `chunks`, the others are spares.

What holds: a delta's base stands alone (deltas are one deep). A base that became a delta, because
somebody coded its family anew while a delta on it was on its way, stands alone again as soon as
that delta is recorded: its old frame is a spare one until a collection takes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update

from ..packs import PackEntry
from .sketches.bands import AddOnce, refresh_bands
from .tables.rows import by_digest, hold_rows
from .tables.schema import chunks, spares

_FRAME = ("pack_id", "offset", "frame_bytes", "codec", "base", "dtype")


def keep_spares(
    connection: Connection, add_once: AddOnce, pack_id: int | None, entries: Sequence[PackEntry]
) -> None:
    """Records those frames of a pack that are not the ones in use."""
    columns = select(chunks.c.id, chunks.c.digest, chunks.c.pack_id, chunks.c.offset)
    wanted = list({e.digest for e in entries})
    rows = {row.digest: row for row in by_digest(connection, columns, wanted)}
    values = [
        {
            "pack_id": pack_id,
            "offset": e.offset,
            "chunk_id": rows[e.digest].id,
            "frame_bytes": e.frame_bytes,
            "codec": e.codec,
            "base": e.base_digest,
            "dtype": e.dtype,
        }
        for e in entries
        if (rows[e.digest].pack_id, rows[e.digest].offset) != (pack_id, e.offset)
    ]
    add_once(connection, spares, values)


def hold_chunks(connection: Connection, digests: Collection[bytes]) -> None:
    """Lets whoever else would change the frames of one of `digests` wait until the transaction
    ends (PostgreSQL; SQLite has one writer at a time). All hold them in one order, so that no two
    wait for each other: who holds some already must not hold more."""
    held = hold_rows(select(chunks.c.id).order_by(chunks.c.digest))
    list(by_digest(connection, held, sorted(set(digests))))


def settle(connection: Connection, digests: Collection[bytes]) -> int:
    """Lets those of `digests` stand alone again that are deltas although others are deltas on
    them; returns how many. One without a frame of its own stays, for a check to report."""
    wanted = sorted(set(digests))
    hold_chunks(connection, wanted)
    other = chunks.alias("other")
    broken = select(chunks).where(
        chunks.c.base.is_not(None), exists().where(other.c.base == chunks.c.digest)
    )
    restored = [
        row.id for row in list(by_digest(connection, broken, wanted)) if _restore(connection, row)
    ]
    return len(restored)


def _restore(connection: Connection, chunk: Any) -> bool:
    alone = select(spares).where(spares.c.chunk_id == chunk.id, spares.c.base.is_(None))
    spare = connection.execute(alone.order_by(spares.c.frame_bytes).limit(1)).first()
    if spare is not None:
        swap(connection, chunk, spare)
    return spare is not None


def swap(connection: Connection, chunk: Any, spare: Any) -> None:
    """Puts a spare frame in use; `chunk` and `spare` are rows, and the frame that was in use
    becomes a spare one."""
    place = (spares.c.pack_id == spare.pack_id) & (spares.c.offset == spare.offset)
    connection.execute(delete(spares).where(place))
    old = {name: getattr(chunk, name) for name in _FRAME}
    connection.execute(insert(spares).values(chunk_id=chunk.id, **old))
    new = {name: getattr(spare, name) for name in _FRAME}
    connection.execute(update(chunks).where(chunks.c.id == chunk.id).values(**new))
    if (chunk.base is None) != (spare.base is None):
        refresh_bands(connection, [chunk.id])

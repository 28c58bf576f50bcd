"""Several frames of one chunk: the one in use is in `chunks`, the others are spares.

What holds: inputs have frames of a lower level than what needs them. A base that became a delta,
because somebody re-encoded its family while a delta on it was on its way, is standalone again as
soon as that delta is recorded: its old frame is a spare one until a collection takes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ..packs import PackEntry
from .edges import (
    add_inputs,
    is_overtaken,
    least_dependent_level,
    lowest_first,
    replace_inputs,
)
from .sketches.bands import AddOnce, refresh_bands
from .tables.rows import by_digest, hold_rows
from .tables.schema import chunks, spares

_FRAME = ("pack_id", "offset", "frame_bytes", "codec", "inputs", "dtype", "level")


def place_frames(
    connection: Connection,
    add_once: AddOnce,
    pack_id: int | None,
    entries: Sequence[PackEntry],
    new_ids: Collection[int],
) -> None:
    """Records those frames of a pack that are not the ones in use, and the inputs of those that
    are: of the chunks `new_ids`, which were recorded in this transaction."""
    columns = select(chunks.c.id, chunks.c.digest, chunks.c.pack_id, chunks.c.offset)
    wanted = list({e.digest for e in entries})
    rows = {row.digest: row for row in by_digest(connection, columns, wanted)}
    spare, inputs = [], {}
    for e in entries:
        row = rows[e.digest]
        if (row.pack_id, row.offset) != (pack_id, e.offset):
            spare.append({"chunk_id": row.id, **_spare_values(e, pack_id)})
        elif row.id in new_ids:
            inputs[row.id] = e.inputs
    add_once(connection, spares, spare)
    add_inputs(connection, inputs)


def _spare_values(entry: PackEntry, pack_id: int | None) -> dict[str, Any]:
    return {
        "pack_id": pack_id,
        "offset": entry.offset,
        "frame_bytes": entry.frame_bytes,
        "codec": entry.codec,
        "inputs": entry.inputs,
        "dtype": entry.dtype,
        "level": entry.level,
    }


def hold_chunks(connection: Connection, digests: Collection[bytes]) -> None:
    """Lets whoever else would change the frames of one of `digests` wait until the transaction
    ends (PostgreSQL; SQLite has one writer at a time). All hold them in one order, so that no two
    wait for each other: who holds some already must not hold more."""
    held = hold_rows(select(chunks.c.id).order_by(chunks.c.digest))
    list(by_digest(connection, held, sorted(set(digests))))


def settle(connection: Connection, digests: Collection[bytes]) -> int:
    """Puts frames of a lower level in use for those of `digests` that others need, although the
    level of their own does not allow it; returns how many. A chunk without such a frame stays as it
    is, for a check to report."""
    wanted = sorted(set(digests))
    hold_chunks(connection, wanted)
    overtaken = list(by_digest(connection, select(chunks).where(is_overtaken()), wanted))
    return sum(
        _lower(connection, row, least_dependent_level(connection, row.digest)) for row in overtaken
    )


def spare_inputs(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns what the spare frames of `digests` need, those of that again, and so on: settling may
    change these, too."""
    query = select(spares).join(chunks, chunks.c.id == spares.c.chunk_id)
    found: set[bytes] = set()
    new = set(digests)
    while new:
        new = {d for row in by_digest(connection, query, new) for d in row.inputs} - found
        found |= new
    return found


def _lower(connection: Connection, chunk: Any, below: int) -> bool:
    """Puts the lowest frame of a chunk in use that has a level below `below`; says whether there is
    one. What that frame needs is lowered, too."""
    if chunk.level < below:
        return True
    mine = select(spares).where(spares.c.chunk_id == chunk.id).order_by(*lowest_first(spares))
    for spare in connection.execute(mine).all():
        if spare.level < below and _lower_all(connection, spare.inputs, spare.level):
            swap(connection, chunk, spare)
            return True
    return False


def _lower_all(connection: Connection, digests: Collection[bytes], below: int) -> bool:
    wanted = set(digests)
    rows = list(by_digest(connection, select(chunks), sorted(wanted)))
    return len(rows) == len(wanted) and all(_lower(connection, row, below) for row in rows)


def swap(connection: Connection, chunk: Any, spare: Any) -> None:
    """Puts a spare frame in use; `chunk` and `spare` are rows, and the frame that was in use
    becomes a spare one."""
    place = (spares.c.pack_id == spare.pack_id) & (spares.c.offset == spare.offset)
    connection.execute(delete(spares).where(place))
    old = {name: getattr(chunk, name) for name in _FRAME}
    connection.execute(insert(spares).values(chunk_id=chunk.id, **old))
    new = {name: getattr(spare, name) for name in _FRAME}
    connection.execute(update(chunks).where(chunks.c.id == chunk.id).values(**new))
    replace_inputs(connection, chunk.id, chunk.inputs, spare.inputs)
    if bool(chunk.inputs) != bool(spare.inputs):
        refresh_bands(connection, [chunk.id])

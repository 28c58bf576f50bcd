"""Puts newly written frames of chunks in use, in one transaction, and replays having done so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, select

from ..packs import DERIVED, STANDALONE
from .dependencies import hold_store
from .edges import edge_columns, levels_of, read_dependents
from .owners import queue_by_digest
from .spare_frames import settle, swap
from .tables.database import Database, MakeEntry
from .tables.rows import Location, by_digest
from .tables.schema import chunks, packs, spares


def adopt_frames(
    catalogue: Database,
    pack: str,
    groups: Sequence[Collection[Location]],
    entry_of: Callable[[list[bytes]], MakeEntry],
) -> list[bytes]:
    """Puts the frames of `pack` in use for groups of chunks; returns the chunks that moved.

    A group is given by where its frames were when the new ones were planned. It moves as a whole
    or not at all: not if one of them has moved meanwhile, nor if its new level does not allow what
    needs it outside the group. `entry_of` makes the journal entry for what moves.
    """
    with catalogue.writing() as connection:
        # Nobody may come to need what gets a higher level meanwhile.
        hold_store(connection, exclusive=True)
        moved = [d for group in groups for d in _adopt_group(connection, pack, group)]
        if moved:
            # Somebody may have come to own one since its new frame was planned.
            queue_by_digest(connection, moved)
            catalogue.write_entry(connection, entry_of(moved))
    return moved


def replay_moves(catalogue: Database, pack: str, digests: Collection[bytes], key: str) -> None:
    """Does again what the journal entry `key` says was done; nothing if it is known."""
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        if not catalogue.take_entry(connection, key):
            return
        rows = _chunk_rows(connection, digests)
        fresh = _spares_in(connection, pack, [row.id for row in rows.values()])
        moving = [row for row in rows.values() if row.id in fresh]
        _swap_all(connection, moving, fresh)
        inputs = {d for row in _chunk_rows(connection, digests).values() for d in row.inputs}
        settle(connection, {*digests, *inputs})
        queue_by_digest(connection, digests)


def settle_chunks(catalogue: Database, digests: Collection[bytes]) -> None:
    """Lets levels fit again where packs were learned in any order (spare_frames.settle)."""
    with catalogue.writing() as connection:
        # Who moves frames holds them in another order.
        hold_store(connection)
        settle(connection, digests)


def lowest_levels(catalogue: Database, digests: Collection[bytes]) -> dict[bytes, int]:
    """Returns the lowest level of the frames of those of `digests` that have any, in use or
    spare."""
    query = select(chunks.c.digest, edge_columns(spares)[1]).join(spares)
    with catalogue.reading() as connection:
        found = levels_of(connection, digests)
        for row in by_digest(connection, query, [d for d, level in found.items() if level]):
            found[row.digest] = min(found[row.digest], row.level)
    return found


def standalone_among(catalogue: Database, digests: Collection[bytes]) -> set[bytes]:
    """Returns those of `digests` that have a standalone frame, in use or spare."""
    levels = lowest_levels(catalogue, digests)
    return {digest for digest, level in levels.items() if level == STANDALONE}


def _adopt_group(connection: Connection, pack: str, group: Collection[Location]) -> list[bytes]:
    before = {place.digest: place for place in group}
    rows = _chunk_rows(connection, list(before))
    fresh = _spares_in(connection, pack, [row.id for row in rows.values()])
    still = all(
        digest in rows and _place(rows[digest]) == (p.pack, p.offset)
        for digest, p in before.items()
    )
    if not still or not _levels_fit(connection, rows, fresh):
        return []
    _swap_all(connection, list(rows.values()), fresh)
    return list(rows)


def _levels_fit(connection: Connection, rows: dict[bytes, Any], fresh: dict[int, Any]) -> bool:
    """Says whether, with the fresh frames in use, every input would have a lower level than what
    needs it."""
    if any(row.id not in fresh for row in rows.values()):
        return False
    levels = {digest: fresh[row.id].level for digest, row in rows.items()}
    rising = [digest for digest, level in levels.items() if level > STANDALONE]
    for edge in read_dependents(connection, rising):
        if edge.digest not in rows and edge.level <= levels[edge.input]:
            return False
    inputs = {digest for row in rows.values() for digest in fresh[row.id].inputs}
    levels |= levels_of(connection, inputs - rows.keys())
    return all(
        levels.get(digest, DERIVED) < fresh[row.id].level
        for row in rows.values()
        for digest in fresh[row.id].inputs
    )


def _swap_all(connection: Connection, rows: list[Any], fresh: dict[int, Any]) -> None:
    for row in rows:
        swap(connection, row, fresh[row.id])


def _chunk_rows(connection: Connection, digests: Collection[bytes]) -> dict[bytes, Any]:
    query = select(chunks, packs.c.name.label("pack")).join(packs)
    return {row.digest: row for row in by_digest(connection, query, list(digests))}


def _spares_in(connection: Connection, pack: str, chunk_ids: list[int]) -> dict[int, Any]:
    query = select(spares).join(packs, packs.c.id == spares.c.pack_id).where(packs.c.name == pack)
    found = by_digest(connection, query, chunk_ids, spares.c.chunk_id)  # type: ignore[arg-type]
    return {row.chunk_id: row for row in found}


def _place(row: Any) -> tuple[str, int]:
    return row.pack, row.offset

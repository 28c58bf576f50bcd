"""The catalogue's side of a collection: tombstones, and taking away what nothing needs.

What disappears is an object, a pack or a manifest, named by its key. A tombstone says since when
nothing was seen to need it; `remove_dead` takes its rows away after the grace, if still nothing
does; only then is the object deleted (ARCHITECTURE.md, "Collection").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import Connection, case, delete, exists, func, select, update

from ..object_keys import is_pack
from .dependencies import hold_store, is_live
from .edges import inputs_closure, lowest_first, much_needed, replaces
from .sketches.bands import refresh_bands
from .spare_frames import swap
from .tables.database import Database, MakeEntry
from .tables.rows import Location, batches, by_digest, location_columns
from .tables.schema import (
    chunks,
    commits,
    loose_files,
    packs,
    settings,
    sketches,
    spares,
    tombstones,
)


@dataclass(frozen=True, slots=True)
class PackUse:
    """A pack, with the bytes of all its frames, of those that are live or kept on purpose, and of
    those that are in use, live or not. All others have been replaced."""

    id: int
    name: str
    bytes: int
    frame_bytes: int
    live_bytes: int
    used_bytes: int

    @property
    def is_replaced(self) -> bool:
        """Whether it has nothing but frames that others are in use for."""
        return self.used_bytes == 0 and self.live_bytes == 0


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A row of `tombstones`; times are Unix seconds."""

    key: str
    since: float
    removed: float | None
    foreign: bool


def catalogue_id(catalogue: Database) -> str:
    """Returns the identity of the catalogue, drawn when it is first asked for: by it a collection
    knows its own entries of the journal."""
    query = select(settings.c.value).where(settings.c.name == "catalogue_id")
    with catalogue.writing() as connection:
        row = {"name": "catalogue_id", "value": uuid4().hex}
        catalogue.add_once(connection, settings, [row])
        return str(connection.scalar(query))


def pack_uses(
    catalogue: Database, copies_from: int | None = None, names: Collection[str] | None = None
) -> list[PackUse]:
    """Returns every pack, or those of `names`, with how much of it is needed.

    `copies_from`: spare frames of bases with at least so many deltas count as needed.
    """
    with catalogue.reading() as connection:
        return _pack_uses(connection, copies_from, names)


def count_pack_bytes(catalogue: Database) -> int:
    """Returns the bytes of all packs."""
    with catalogue.reading() as connection:
        return int(connection.scalar(select(func.coalesce(func.sum(packs.c.bytes), 0))) or 0)


def list_tombstones(catalogue: Database) -> dict[str, Tombstone]:
    """Returns all tombstones by key."""
    with catalogue.reading() as connection:
        return {row.key: Tombstone(*row) for row in connection.execute(select(tombstones))}


def tombstones_among(catalogue: Database, keys: Collection[str]) -> list[Tombstone]:
    """Returns the tombstones of those of `keys` that have one."""
    with catalogue.reading() as connection:
        return [
            Tombstone(*row)
            for batch in batches(list(keys))
            for row in connection.execute(select(tombstones).where(tombstones.c.key.in_(batch)))
        ]


def used_manifests(catalogue: Database) -> set[str]:
    """Returns the names of all manifests that commits or uploads have."""
    with catalogue.reading() as connection:
        tables = (commits, loose_files)
        return {n for t in tables for n in connection.scalars(select(t.c.manifest).distinct())}


def packs_holding(catalogue: Database, digests: Collection[bytes]) -> set[str]:
    """Returns the packs in which chunks, and all that their frames need, lie."""
    query = select(packs.c.name).join(chunks, chunks.c.pack_id == packs.c.id)
    with catalogue.reading() as connection:
        wanted = {*digests, *inputs_closure(connection, digests)}
        return {row.name for row in by_digest(connection, query.distinct(), wanted)}


def live_places(catalogue: Database, pack: str, *, live: bool = True) -> list[Location]:
    """Returns where the live frames of a pack lie, in order of offset; or those that are in use and
    not `live`."""
    mine = select(packs.c.id).where(packs.c.name == pack).scalar_subquery()
    query = location_columns().where(chunks.c.pack_id == mine, is_live() if live else ~is_live())
    with catalogue.reading() as connection:
        return [Location(*row) for row in connection.execute(query.order_by(chunks.c.offset))]


def set_tombstones(
    catalogue: Database, keys: Sequence[str], since: float, entry: str | MakeEntry
) -> None:
    """Gives each of `keys` a tombstone, as the journal entry `entry` says."""
    rows = [{"key": k, "since": since, "removed": None, "foreign": False} for k in keys]
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        if catalogue.take_entry(connection, entry):
            catalogue.add_once(connection, tombstones, rows)
            catalogue.write_entry(connection, entry)


def lift_tombstones(catalogue: Database, keys: Collection[str], entry: str | MakeEntry) -> None:
    """Takes tombstones away again, as the journal entry `entry` says."""
    with catalogue.writing() as connection:
        hold_store(connection)
        if catalogue.take_entry(connection, entry):
            _delete_tombstones(connection, keys)
            catalogue.write_entry(connection, entry)


def lift_needed(catalogue: Database, copies_from: int | None = None) -> None:
    """Takes their tombstones away from objects that something needs: a commit may have come between
    a collection's look and its tombstones. Other catalogues see for themselves."""
    waiting = select(tombstones.c.key).where(tombstones.c.removed.is_(None))
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        keys = set(connection.scalars(waiting))
        _delete_tombstones(connection, keys - set(_unneeded(connection, keys, copies_from)))


def remove_dead(
    catalogue: Database,
    keys: Collection[str],
    now: float,
    entry_of: Callable[[list[str]], MakeEntry],
    copies_from: int | None = None,
) -> list[str]:
    """Takes away the rows of those objects among `keys` that have a tombstone and that nothing
    needs; returns their keys. What is needed again loses its tombstone.

    `entry_of` makes the journal entry for them.
    """
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        present = set(_tombstones_among(connection, keys))
        dead = _unneeded(connection, present, copies_from)
        _delete_tombstones(connection, present - set(dead))
        _drop_packs(connection, [_pack_name(key) for key in dead])
        marked = update(tombstones).values(removed=now, foreign=False)
        for batch in batches(dead):
            connection.execute(marked.where(tombstones.c.key.in_(batch)))
        if dead:
            catalogue.write_entry(connection, entry_of(dead))
    return dead


def remove_replaced(
    catalogue: Database,
    keys: Collection[str],
    now: float,
    entry_of: Callable[[list[str]], MakeEntry],
    copies_from: int | None = None,
) -> list[str]:
    """As remove_dead, of those packs among `keys` that have nothing but frames that others are in
    use for, whether they have a tombstone or not."""
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        uses = _pack_uses(connection, copies_from, [_pack_name(key) for key in keys])
        names = {use.name for use in uses if use.is_replaced}
        dead = sorted(key for key in keys if is_pack(key) and _pack_name(key) in names)
        _drop_packs(connection, [_pack_name(key) for key in dead])
        _delete_tombstones(connection, dead)
        rows = [{"key": key, "since": now, "removed": now, "foreign": False} for key in dead]
        catalogue.add_once(connection, tombstones, rows)
        if dead:
            catalogue.write_entry(connection, entry_of(dead))
    return dead


def replay_removal(
    catalogue: Database, keys: Collection[str], now: float, entry: str, *, foreign: bool
) -> None:
    """Does what the journal entry `entry` says: `keys` are going, since `now`.

    It is one of another catalogue (`foreign`), or one of this that died before it did so. A pack
    that is needed here all the same stays recorded, for a check to report.
    """
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        if not catalogue.take_entry(connection, entry):
            return
        dead = _unneeded(connection, set(keys), None)
        _drop_packs(connection, [_pack_name(key) for key in dead])
        _delete_tombstones(connection, keys)
        rows = [{"key": k, "since": now, "removed": now, "foreign": foreign} for k in dead]
        catalogue.add_once(connection, tombstones, rows)


def delete_removed(catalogue: Database, key: str, delete_object: Callable[[], None]) -> bool:
    """Deletes an object whose rows are gone, unless it was put again meanwhile; says whether.

    Nobody can come to rely on it in between: they wait for this transaction.
    """
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        query = select(tombstones).where(tombstones.c.key == key, tombstones.c.removed.is_not(None))
        if connection.execute(query).first() is None or not _unneeded(connection, {key}, None):
            return False
        delete_object()
        _delete_tombstones(connection, [key])
        return True


def forget_removed(catalogue: Database, gone: Collection[str], before: float) -> None:
    """Drops the tombstones of objects that are gone: removed by this catalogue, or by another one
    `before` that time, so that it cannot be at it any more."""
    with catalogue.writing() as connection:
        for batch in batches(list(gone)):
            done = ~tombstones.c.foreign | (tombstones.c.removed < before)
            mine = tombstones.c.key.in_(batch) & tombstones.c.removed.is_not(None)
            connection.execute(delete(tombstones).where(mine, done))


def _pack_uses(
    connection: Connection, copies_from: int | None, names: Collection[str] | None = None
) -> list[PackUse]:
    kept: dict[int, int] = dict.fromkeys(kept_copies(connection, copies_from), 1)
    live = func.coalesce(func.sum(case((is_live(), chunks.c.frame_bytes), else_=0)), 0)
    used = func.coalesce(func.sum(chunks.c.frame_bytes), 0)
    query = (
        select(packs.c.id, packs.c.name, packs.c.bytes, packs.c.frame_bytes, live, used)
        .outerjoin(chunks, chunks.c.pack_id == packs.c.id)
        .group_by(packs.c.id, packs.c.name, packs.c.bytes, packs.c.frame_bytes)
        .order_by(packs.c.id)
    )
    parts = (
        [query] if names is None else [query.where(packs.c.name.in_(b)) for b in batches([*names])]
    )
    rows = [row for part in parts for row in connection.execute(part)]
    return [
        PackUse(i, name, size, frames, frames if i in kept else int(needed), int(any_))
        for i, name, size, frames, needed, any_ in rows
    ]


def kept_copies(connection: Connection, copies_from: int | None) -> set[int]:
    """Returns the ids of packs that hold the second frame of a chunk that many others need."""
    if copies_from is None:
        return set()
    many = much_needed(copies_from)
    query = (
        select(spares.c.pack_id)
        .join(chunks, chunks.c.id == spares.c.chunk_id)
        .where(chunks.c.digest.in_(many), replaces(spares), is_live())
    )
    return set(connection.scalars(query.distinct()))


def _unneeded(connection: Connection, keys: Collection[str], copies_from: int | None) -> list[str]:
    """Returns those keys whose pack has nothing live, or whose manifest no commit has."""
    names = {_pack_name(key): key for key in keys}
    uses = _pack_uses(connection, copies_from, [n for n, k in names.items() if is_pack(k)])
    needed = {use.name for use in uses if use.live_bytes}
    manifests = [n for n, k in names.items() if not is_pack(k)]
    for batch in batches(manifests):
        for table in (commits, loose_files):
            query = select(table.c.manifest).where(table.c.manifest.in_(batch))
            needed.update(connection.scalars(query.distinct()))
    return sorted(key for name, key in names.items() if name not in needed)


def _drop_packs(connection: Connection, names: Collection[str]) -> None:
    """Takes away packs without live frames: their rows and those of their chunks, except chunks
    with another frame elsewhere, which move there."""
    for batch in batches(list(names)):
        ids = list(connection.scalars(select(packs.c.id).where(packs.c.name.in_(batch))))
        connection.execute(delete(spares).where(spares.c.pack_id.in_(ids)))
        _move_to_spares(connection, ids)
        # The frames those left behind are spares of these packs now.
        connection.execute(delete(spares).where(spares.c.pack_id.in_(ids)))
        gone = select(chunks.c.id).where(chunks.c.pack_id.in_(ids))
        connection.execute(delete(sketches).where(sketches.c.chunk_id.in_(gone)))
        connection.execute(delete(chunks).where(chunks.c.pack_id.in_(ids)))
        connection.execute(delete(packs).where(packs.c.id.in_(ids)))


def _move_to_spares(connection: Connection, pack_ids: list[int]) -> None:
    other = exists().where(spares.c.chunk_id == chunks.c.id)
    moving = connection.execute(select(chunks).where(chunks.c.pack_id.in_(pack_ids), other)).all()
    for chunk in moving:
        mine = select(spares).where(spares.c.chunk_id == chunk.id).order_by(*lowest_first(spares))
        spare = connection.execute(mine.limit(1)).first()
        swap(connection, chunk, spare)
    refresh_bands(connection, [chunk.id for chunk in moving])


def _tombstones_among(connection: Connection, keys: Collection[str]) -> list[str]:
    found: list[str] = []
    for batch in batches(list(keys)):
        found += connection.scalars(select(tombstones.c.key).where(tombstones.c.key.in_(batch)))
    return found


def _delete_tombstones(connection: Connection, keys: Collection[str]) -> None:
    for batch in batches(list(keys)):
        connection.execute(delete(tombstones).where(tombstones.c.key.in_(batch)))


def _pack_name(key: str) -> str:
    return key.rpartition("/")[2]

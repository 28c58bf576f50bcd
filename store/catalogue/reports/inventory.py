"""What the catalogue says of objects, for reports: packs, tombstones, manifests in use."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from ..tables.schema import commits, loose_files, packs, tombstones
from ..tombstones import Tombstone, kept_copies


@dataclass(frozen=True, slots=True)
class PackLine:
    """A pack on record, with the bytes of the object and of all frames in it."""

    id: int
    name: str
    bytes: int
    frame_bytes: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """`kept` are the ids of packs with second copies of bases, `manifests` the names of those that
    commits and uploads have, `tombstones` by key."""

    packs: list[PackLine]
    kept: set[int]
    manifests: set[str]
    tombstones: dict[str, Tombstone]


def read_inventory(connection: Connection, copies_from: int | None) -> Inventory:
    """Reads it; `copies_from` as for a collection."""
    columns = select(packs.c.id, packs.c.name, packs.c.bytes, packs.c.frame_bytes)
    named = (select(table.c.manifest).distinct() for table in (commits, loose_files))
    return Inventory(
        [PackLine(*row) for row in connection.execute(columns.order_by(packs.c.id))],
        kept_copies(connection, copies_from),
        {name for query in named for name in connection.scalars(query)},
        {row.key: Tombstone(*row) for row in connection.execute(select(tombstones))},
    )

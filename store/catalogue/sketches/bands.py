"""The columns that sketches are searched by (FORMAT.md, "Sketch").

A search compares no sketch with all others. Of the 256 bits, sixteen overlapping *bands* of 20 are
columns with an index each; whatever shares one band with the sketch asked for is looked at. Of
related tensors that differ in 7 % of their bits 99.2 % share one, of unrelated ones 1 in 65,000.
Only chunks that are standalone have bands: they are what a delta may be made against.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select, update

from ..edges import is_standalone
from ..tables.rows import SketchRow, batches, by_digest
from ..tables.schema import BANDS, chunks, sketches

AddOnce = Callable[[Connection, Table, list[dict[str, Any]]], int]

_BAND_BITS = 20
_STRIDE_BITS = 16


def band_values(kind: int | None, bits: bytes) -> dict[str, int | None]:
    """Returns the columns of a sketch: `kind` (below 512) and 20 bits each, 29 bits in all.

    A band of equal bits says little and would be shared by many: it is left out.
    """
    number = int.from_bytes(bits, "little")
    doubled = number | number << 8 * len(bits)
    full = (1 << _BAND_BITS) - 1
    values: dict[str, int | None] = {}
    for i in range(BANDS):
        piece = doubled >> _STRIDE_BITS * i & full
        usable = kind is not None and piece not in (0, full)
        values[f"band{i}"] = (kind or 0) << _BAND_BITS | piece if usable else None
    return values


def add_sketches(connection: Connection, add_once: AddOnce, rows: Sequence[SketchRow]) -> None:
    """Writes the sketches of chunks that are recorded; others are left out."""
    columns = select(chunks.c.id, chunks.c.digest, is_standalone().label("alone"))
    ids = {r.digest: r for r in by_digest(connection, columns, [row.digest for row in rows])}
    values = [
        {
            "chunk_id": ids[row.digest].id,
            "kind": row.kind,
            "dtype": row.dtype,
            "raw_bytes": row.raw_bytes,
            "bits": row.bits,
            "words": row.words,
            **band_values(row.kind if ids[row.digest].alone else None, row.bits),
        }
        for row in rows
        if row.digest in ids
    ]
    add_once(connection, sketches, values)


def refresh_bands(connection: Connection, chunk_ids: Collection[int]) -> None:
    """Makes chunks searchable that are standalone now, and others no longer."""
    alone = is_standalone().label("alone")
    query = select(sketches.c.chunk_id, sketches.c.kind, sketches.c.bits, alone).join(
        chunks, chunks.c.id == sketches.c.chunk_id
    )
    for batch in batches(list(chunk_ids)):
        for row in connection.execute(query.where(sketches.c.chunk_id.in_(batch))).all():
            values = band_values(row.kind if row.alone else None, row.bits)
            mine = sketches.c.chunk_id == row.chunk_id
            connection.execute(update(sketches).where(mine).values(**values))

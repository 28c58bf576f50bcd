"""Asks for many sketches at once what shares bands with them. Most new chunks share none with any
other, and then nothing about each need be asked alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, literal, select, union_all

from ..edges import inputs_among
from ..tables.database import Database
from ..tables.rows import SketchRow, batches
from ..tables.schema import BANDS, sketches
from ..visibility import Scope
from .bands import band_values
from .near import Near, choose_near, find_near
from .sketches import FamilyRow

# Sixteen values each: databases take some 32,000 in a statement.
_ROWS_AT_ONCE = 256
# Rows looked at for one band of as many sketches. Where there are more, each is asked for alone.
_MOST_ROWS = 4096


def find_near_all(
    catalogue: Database, rows: Sequence[SketchRow], scopes: Sequence[Scope] = ()
) -> list[Near]:
    """Does as near.find_near for each of the sketches, of which some hundreds take a statement
    together where there are no `scopes`."""
    found: list[Near] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        found += _find_some(catalogue, rows[start : start + _ROWS_AT_ONCE], scopes)
    return found


def _find_some(
    catalogue: Database, rows: Sequence[SketchRow], scopes: Sequence[Scope]
) -> list[Near]:
    found: list[Near] = [[] for _ in rows]
    together: dict[int, dict[int, Mapping[int, int]]] = defaultdict(dict)
    apart: list[int] = []
    with catalogue.reading() as connection:
        for number, counts in enumerate(_share_some(connection, rows)):
            # Most new chunks are like nothing that is stored, and need not be asked for.
            if counts is None or (scopes and counts):
                apart.append(number)
            elif counts:
                together[rows[number].dtype][number] = counts
        for dtype, each in together.items():
            near = choose_near(connection, list(each.values()), (dtype,))
            for number, chunks_near in zip(each, near, strict=True):
                found[number] = chunks_near
    for number in apart:
        found[number] = find_near(catalogue, rows[number], scopes)
    return found


def share_bands(catalogue: Database, rows: Sequence[SketchRow]) -> list[Counter[int] | None]:
    """Returns for each sketch the ids of the chunks, of any dtype and owner, that share a band with
    it, and how many, its own chunk included; None where that is not known, as there are too
    many."""
    found: list[Counter[int] | None] = []
    with catalogue.reading() as connection:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            found += _share_some(connection, rows[start : start + _ROWS_AT_ONCE])
    return found


def find_lonely(catalogue: Database, rows: Sequence[FamilyRow]) -> set[int]:
    """Returns the ids of those chunks that are standalone, share no band with another chunk, and
    have no deltas: each is a family of its own."""
    alone = [row for row in rows if row.sketch is not None and row.place.base is None]
    sharing = share_bands(catalogue, [row.sketch for row in alone if row.sketch is not None])
    lonely = [
        row
        for row, ids in zip(alone, sharing, strict=True)
        if ids is not None and not ids.keys() - {row.chunk_id}
    ]
    needed = _find_needed(catalogue, [row.place.digest for row in lonely])
    return {row.chunk_id for row in lonely if row.place.digest not in needed}


def _find_needed(catalogue: Database, digests: Collection[bytes]) -> set[bytes]:
    """Returns those chunks that some frame in use needs."""
    with catalogue.reading() as connection:
        return {
            digest
            for batch in batches(list(digests))
            for digest in connection.scalars(inputs_among(batch))
        }


def _share_some(connection: Connection, rows: Sequence[SketchRow]) -> list[Counter[int] | None]:
    wanted: list[dict[int, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for number, row in enumerate(rows):
        for band, value in enumerate(band_values(row.kind, row.bits).values()):
            if value is not None:
                wanted[band][value].append(number)
    values = {f"values{band}": list(wanted[band]) for band in range(BANDS)}
    found: list[Counter[int] | None] = [Counter() for _ in rows]
    counts = [0] * BANDS
    for row in connection.execute(_SHARING_SOME, values):
        counts[row.band] += 1
        for number in wanted[row.band][row.value]:
            if (ids := found[number]) is not None:
                ids[row.chunk_id] += 1
    for band in (band for band in range(BANDS) if counts[band] >= _MOST_ROWS):
        for number in (number for numbers in wanted[band].values() for number in numbers):
            found[number] = None
    return found


def _sharing_query(most: int) -> Any:
    parts = []
    for i in range(BANDS):
        column = sketches.c[f"band{i}"]
        mine = column.in_(bindparam(f"values{i}", expanding=True))
        part = select(literal(i).label("band"), column.label("value"), sketches.c.chunk_id)
        parts.append(select(part.where(mine).limit(most).subquery(f"part{i}")))
    return union_all(*parts)


_SHARING_SOME = _sharing_query(_MOST_ROWS)

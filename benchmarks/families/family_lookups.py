"""Times the search for one tensor among many sketches, in SQLite and in PostgreSQL."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, create_engine, insert, text

from ...store.catalogue.catalogue import Catalogue, open_catalogue
from ...store.catalogue.sketches.bands import band_values
from ...store.catalogue.sketches.near import find_near
from ...store.catalogue.tables.rows import SketchRow
from ...store.catalogue.tables.schema import chunks, packs, sketches

_KIND, _DTYPE, _RAW_BYTES = 12, 12, 2_097_152
_BATCH = 5_000
_LOOKUPS = 300
# Bits of 256 that the sketch asked for differs from one that is there.
_FLIPPED = 3


def time_lookups(postgresql: str | None, most: int) -> list[dict[str, Any]]:
    """Returns a row for each database and number of sketches, all of one shape: the worst case.

    The sizes of one database are searched in turns, so that whatever else the machine does falls
    on all of them alike.
    """
    counts = [n for n in (10**4, 10**5, 10**6) if n <= most]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="weightvault-lookups-") as temporary:
        databases = [[f"sqlite:///{Path(temporary) / f'{count}.sqlite'}" for count in counts]]
        if postgresql:
            databases.append([_make_schema(postgresql, f"sketches_{count}") for count in counts])
        for urls in databases:
            rows.extend(_time_database(urls, counts))
    return rows


def _make_schema(url: str, name: str) -> str:
    """Returns the address of an empty namespace in a PostgreSQL database."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"


@dataclass(slots=True)
class _Filled:
    """A catalogue of `count` sketches, the bits of some, and how long searches for them took."""

    catalogue: Catalogue
    count: int
    samples: list[bytes]
    empty_bytes: int
    fill_seconds: float
    seconds: list[float] = field(default_factory=list)
    found: int = 0


def _time_database(urls: list[str], counts: list[int]) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    databases = [_fill_new(url, count, rng) for url, count in zip(urls, counts, strict=True)]
    # The first ones prepare the statements.
    for number in range(-20, _LOOKUPS):
        for database in databases:
            _look_up(database, rng, counts=number >= 0)
    for database in databases:
        yield _row_of(database)
        database.catalogue.close()


def _row_of(database: _Filled) -> dict[str, Any]:
    size = _database_bytes(database.catalogue) - database.empty_bytes
    row = {
        "database": database.catalogue.engine.dialect.name,
        "sketches": database.count,
        "median_ms": 1000 * statistics.median(database.seconds),
        "p95_ms": 1000 * sorted(database.seconds)[int(0.95 * _LOOKUPS)],
        "found": database.found / _LOOKUPS,
        "bytes_per_sketch": size / database.count,
        "index_bytes_per_sketch": _index_bytes(database.catalogue, database.count),
        "fill_seconds": database.fill_seconds,
    }
    print(row, flush=True)
    return row


def _fill_new(url: str, count: int, rng: np.random.Generator) -> _Filled:
    """Makes a catalogue of chunks that are standalone, with random sketches."""
    started = time.monotonic()
    catalogue = open_catalogue(url)
    empty = _database_bytes(catalogue)
    samples: list[bytes] = []
    with catalogue.writing() as connection:
        connection.execute(insert(packs).values(name="0" * 64, bytes=1, frame_bytes=1))
        for first in range(0, count, _BATCH):
            numbers = range(first, min(count, first + _BATCH))
            bits = [rng.bytes(32) for _ in numbers]
            _insert(connection, rng, numbers, bits)
            samples.extend(bits[:: _BATCH // 50])
    if catalogue.engine.dialect.name == "postgresql":
        with catalogue.engine.connect() as raw:
            raw.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return _Filled(catalogue, count, samples, empty, time.monotonic() - started)


def _insert(
    connection: Connection, rng: np.random.Generator, numbers: range, bits: list[bytes]
) -> None:
    places = [
        {
            "id": i + 1,
            "digest": rng.bytes(32),
            "pack_id": 1,
            "offset": i,
            "frame_bytes": 1,
            "raw_bytes": _RAW_BYTES,
            "codec": 3,
        }
        for i in numbers
    ]
    connection.execute(insert(chunks), places)
    facts = {"kind": _KIND, "dtype": _DTYPE, "raw_bytes": _RAW_BYTES, "planned": None}
    rows = [
        {"chunk_id": i + 1, "bits": b, "words": rng.bytes(512), **facts, **band_values(_KIND, b)}
        for i, b in zip(numbers, bits, strict=True)
    ]
    connection.execute(insert(sketches), rows)


def _look_up(database: _Filled, rng: np.random.Generator, *, counts: bool) -> None:
    """Searches for the relative of one of the samples, and notes the time if it `counts`."""
    bits = database.samples[int(rng.integers(len(database.samples)))]
    flipped = int.from_bytes(bits, "little")
    for position in rng.choice(256, _FLIPPED, replace=False):
        flipped ^= 1 << int(position)
    row = SketchRow(b"", _KIND, _DTYPE, _RAW_BYTES, flipped.to_bytes(32, "little"), b"")
    started = time.perf_counter()
    near = find_near(database.catalogue, row)
    if counts:
        database.seconds.append(time.perf_counter() - started)
        database.found += any(other == bits for _, other in near)


def _database_bytes(catalogue: Catalogue) -> int:
    if catalogue.engine.dialect.name == "sqlite":
        path = str(catalogue.engine.url.database)
        return sum(os.path.getsize(p) for p in (path, f"{path}-wal") if os.path.exists(p))
    with catalogue.reading() as connection:
        query = text("SELECT pg_total_relation_size('sketches')")
        return int(connection.execute(query).scalar() or 0)


def _index_bytes(catalogue: Catalogue, count: int) -> float | str:
    """Bytes of the sixteen indexes for each sketch, where the database tells."""
    if catalogue.engine.dialect.name == "sqlite":
        with catalogue.reading() as connection:
            query = text("SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'sketches_band%'")
            try:
                return int(connection.execute(query).scalar() or 0) / count
            except Exception:
                return "unknown"
    with catalogue.reading() as connection:
        query = text("SELECT pg_indexes_size('sketches')")
        return int(connection.execute(query).scalar() or 0) / count

"""Times the search for one tensor among many sketches, in SQLite and in PostgreSQL."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, text

from ..store.bands import band_values
from ..store.catalogue import Catalogue, open_catalogue
from ..store.rows import SketchRow
from ..store.schema import chunks, packs, sketches
from ..store.sketches import find_near

_KIND, _DTYPE, _RAW_BYTES = 12, 12, 2_097_152
_BATCH = 5_000
_LOOKUPS = 300
# Bits of 256 that the sketch asked for differs from one that is there.
_FLIPPED = 3


def time_lookups(postgresql: str | None, most: int) -> list[dict[str, Any]]:
    """Returns a row for each database and number of sketches, all of one shape: the worst case."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="weightvault-lookups-") as temporary:
        urls = [f"sqlite:///{Path(temporary) / 'c.sqlite'}", *([postgresql] if postgresql else [])]
        for url in urls:
            catalogue = open_catalogue(url)
            rows.extend(_time_database(catalogue, most))
            catalogue.close()
    return rows


def _time_database(catalogue: Catalogue, most: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    stored = 0
    for count in (n for n in (10**4, 10**5, 10**6) if n <= most):
        started = time.monotonic()
        empty = _database_bytes(catalogue) if stored == 0 else 0
        samples = _fill(catalogue, rng, stored, count)
        stored = count
        filled = time.monotonic() - started
        times, found = _look_up(catalogue, rng, samples)
        row = {
            "database": catalogue.engine.dialect.name,
            "sketches": count,
            "median_ms": 1000 * statistics.median(times),
            "p95_ms": 1000 * sorted(times)[int(0.95 * len(times))],
            "found": found,
            "bytes_per_sketch": (_database_bytes(catalogue) - empty) / count,
            "index_bytes_per_sketch": _index_bytes(catalogue, count),
            "fill_seconds": filled,
        }
        print(row, flush=True)
        yield row


def _fill(catalogue: Catalogue, rng: np.random.Generator, start: int, stop: int) -> list[bytes]:
    """Adds chunks that stand alone, with random sketches; returns the bits of some."""
    samples: list[bytes] = []
    with catalogue.writing() as connection:
        if start == 0:
            pack = {"name": "0" * 64, "bytes": 1, "frame_bytes": 1}
            connection.execute(insert(packs).values(pack))
        for first in range(start, stop, _BATCH):
            numbers = range(first, min(stop, first + _BATCH))
            bits = [rng.bytes(32) for _ in numbers]
            _insert(connection, rng, numbers, bits)
            samples.extend(bits[:: _BATCH // 50])
    if catalogue.engine.dialect.name == "postgresql":
        with catalogue.engine.connect() as raw:
            raw.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return samples


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
            "base": None,
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


def _look_up(
    catalogue: Catalogue, rng: np.random.Generator, samples: list[bytes]
) -> tuple[list[float], float]:
    """Returns the seconds of each search for a relative, and the share of them that were found."""
    times, found = [], 0
    for number in range(_LOOKUPS + 20):
        bits = samples[int(rng.integers(len(samples)))]
        flipped = int.from_bytes(bits, "little")
        for position in rng.choice(256, _FLIPPED, replace=False):
            flipped ^= 1 << int(position)
        row = SketchRow(b"", _KIND, _DTYPE, _RAW_BYTES, flipped.to_bytes(32, "little"), b"")
        started = time.perf_counter()
        near = find_near(catalogue, row)
        # The first ones prepare the statement.
        if number >= 20:
            times.append(time.perf_counter() - started)
            found += any(other == bits for _, other in near)
    return times, found / _LOOKUPS


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

"""Fills a catalogue with made-up rows of many repos, for what only many rows can show.

Half of the repos are one family: a base and tunes of it. The others are families of a hundred. A
tune has `OWN` deltas of its own on its base's chunks, and shares the rest with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, insert

from ..dedup.marker import write_marker
from ..store.catalogue import Catalogue, open_catalogue
from ..store.open import open_backend
from ..store.schema import chunks, commit_chunks, commits, files, packs, refs, repos, sketches

TENSORS, OWN = 300, 60
_FAMILY = 100
_CHUNKS_A_PACK = 600
_RAW, _ALONE, _DELTA = 8 << 20, 5 << 20, 1 << 20
_PLANES, _DIFFERENCE, _BF16, _SAFETENSORS_TENSOR = 3, 5, 12, 3
_ROWS_AT_ONCE = 20_000
_START, _DAY = 1_760_000_000.0, 86_400.0


def fill_vault(folder: Path, count: int) -> None:
    """Makes a vault in `folder` with `count` repos of TENSORS tensors each. Its packs and manifests
    are empty objects: what is read from the catalogue is there, content is not."""
    folder.mkdir(parents=True)
    backend = open_backend(str(folder / "objects"))
    catalogue = open_catalogue(f"sqlite:///{folder / 'catalogue.sqlite'}")
    write_marker(backend, catalogue)
    with catalogue.writing() as connection:
        for table, rows in _tables(count):
            _insert(connection, table, rows)
    for number in range(count):
        name = _hex("manifest", number)
        backend.put(f"manifests/{name[:2]}/{name}", b"")
    for number in range(1 + _count_chunks(count) // _CHUNKS_A_PACK):
        name = _hex("pack", number)
        backend.put(f"packs/{name[:2]}/{name}", b"")
    _analyse(catalogue)
    catalogue.close()
    backend.close()


def name_of(number: int) -> str:
    """The name of the repo `number`."""
    kind = "base" if _base_of(number, number + 1) == number else "tune"
    return f"team-{number % 97:02d}/{kind}-{number:05d}"


def _base_of(number: int, count: int) -> int:
    """The repo that `number` is a tune of, itself where it is a base."""
    half = count // 2
    return 0 if number < half else number - (number - half) % _FAMILY


def _tables(count: int) -> Iterator[tuple[Table, Iterator[dict[str, Any]]]]:
    total = _count_chunks(count)
    yield packs, (_pack(i) for i in range(1 + total // _CHUNKS_A_PACK))
    yield chunks, (row for _, row in _chunks(count))
    yield sketches, (_sketch(row["id"]) for _, row in _chunks(count))
    yield repos, ({"id": i + 1, "name": name_of(i), "public": False} for i in range(count))
    yield commits, (_commit(i, count) for i in range(count))
    yield refs, ({"repo_id": i + 1, "name": "main", "commit_id": i + 1} for i in range(count))
    yield files, (row for i in range(count) for row in _files(i))
    yield commit_chunks, _uses(count)


def _count_chunks(count: int) -> int:
    return sum(TENSORS if _base_of(i, count) == i else OWN for i in range(count))


def _chunks(count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the chunks that are new with each repo, with its number."""
    identity = 0
    for number in range(count):
        base = _base_of(number, count)
        alone = base == number
        for tensor in range(TENSORS if alone else OWN):
            identity += 1
            yield (
                number,
                {
                    "id": identity,
                    "digest": _digest("chunk", number, tensor),
                    "pack_id": 1 + identity // _CHUNKS_A_PACK,
                    "offset": 8 + identity % _CHUNKS_A_PACK * _ALONE,
                    "frame_bytes": _ALONE if alone else _DELTA,
                    "raw_bytes": _RAW,
                    "codec": _PLANES if alone else _DIFFERENCE,
                    "base": None if alone else _digest("chunk", base, tensor),
                    "dtype": _BF16,
                },
            )


def _uses(count: int) -> Iterator[dict[str, Any]]:
    first: dict[int, int] = {}
    for number, row in _chunks(count):
        first.setdefault(number, row["id"])
    for number in range(count):
        base = _base_of(number, count)
        own = range(first[number], first[number] + (TENSORS if base == number else OWN))
        shared = () if base == number else range(first[base] + OWN, first[base] + TENSORS)
        for chunk in (*own, *shared):
            row = {"commit_id": number + 1, "chunk_id": chunk, "uses": _SAFETENSORS_TENSOR}
            yield row


def _pack(number: int) -> dict[str, Any]:
    size = _CHUNKS_A_PACK * _DELTA
    return {"id": number + 1, "name": _hex("pack", number), "bytes": size, "frame_bytes": size}


def _sketch(identity: int) -> dict[str, Any]:
    facts = {"kind": 1, "dtype": _BF16, "raw_bytes": _RAW, "bits": b"\0" * 32, "words": b""}
    return {"chunk_id": identity, "planned": None, **facts}


def _commit(number: int, count: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "repo_id": number + 1,
        "oid": _hex("commit", number)[:40],
        "branch": "main",
        "parent": None,
        "manifest": _hex("manifest", number),
        "base": None,
        "created": _START + number * _DAY * 365 / count,
    }


def _files(number: int) -> Iterator[dict[str, Any]]:
    for part in range(8):
        yield {
            "commit_id": number + 1,
            "path": f"model-{part}-of-8.safetensors",
            "bytes": TENSORS * _RAW // 8,
            "digest": _digest("file", number, part),
            "recipe": _digest("recipe", number, part),
            "tensors": TENSORS // 8,
            "format": 1,
            "tensor_bytes": TENSORS * _RAW // 8,
            "inlined_bytes": 0,
        }


def _insert(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            connection.execute(insert(table), batch)
            batch = []
    if batch:
        connection.execute(insert(table), batch)


def _analyse(catalogue: Catalogue) -> None:
    with catalogue.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _hex(*parts: object) -> str:
    return _digest(*parts).hex()

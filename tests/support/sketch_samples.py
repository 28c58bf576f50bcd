"""Sketches as the catalogue keeps them, made up for tests of the store."""

from __future__ import annotations

from random import Random

from chunk_samples import digest

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow, SketchRow
from weightvault.store.packs import PackEntry

BF16 = 12


def make_row(seed: object, *, kind: int | None = 17, raw_bytes: int = 4096) -> SketchRow:
    """A sketch with random bits."""
    bits = Random(repr(seed)).randbytes(32)
    return SketchRow(digest(seed), kind, BF16, raw_bytes, bits, b"")


def flip_bits(row: SketchRow, count: int, seed: object) -> SketchRow:
    """The sketch of a relative: another digest, `count` bits flipped."""
    number = int.from_bytes(row.bits, "little")
    for position in Random(repr(seed)).sample(range(256), count):
        number ^= 1 << position
    bits = number.to_bytes(32, "little")
    return SketchRow(digest(seed), row.kind, row.dtype, row.raw_bytes, bits, b"")


def make_entry(
    row: SketchRow, offset: int, base: bytes | None = None, size: int = 100
) -> PackEntry:
    """A frame of the chunk in a pack."""
    return PackEntry(
        row.digest, offset, size, row.raw_bytes, 3, row.dtype, () if base is None else (base,)
    )


def add_rows(
    catalogue: Catalogue, pack: str, rows: list[SketchRow], base: bytes | None = None
) -> None:
    """Records a pack with a frame of each, coded against `base`."""
    entries = [make_entry(row, 8 + 100 * i, base) for i, row in enumerate(rows)]
    catalogue.add_pack(pack, 1, entries, rows)


def add_commit(catalogue: Catalogue, repo: str, digests: list[bytes]) -> str:
    """Records a commit of a repo that needs these chunks; returns its id."""
    oid = digest(repo).hex()[:40]
    row = CommitRow(oid, repo, "main", None, "0" * 64, None, 1.0)
    files = [FileRow("f", 1, digest(repo), digest(repo), 1)]
    catalogue.add_commit(row, files, dict.fromkeys(digests, 0), f"journal/{oid}")
    return oid

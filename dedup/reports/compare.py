"""What other ways of storing take for the same files, measured by doing it.

The files, or a sample of them drawn by their digests, are read once, decoded and run through every
method. Memory is bounded by the chunks: what a method has seen before is noted in a database in
the scratch folder.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import lz4.block
import numpy as np
import zstandard
from blake3 import blake3

from ...codecs.pipeline import encode_tensor
from ...store.catalogue.edges import count_dependents
from ...store.catalogue.reports.statistics import DistinctFile, list_distinct_files
from ...store.catalogue.tables.rows import Location
from ..errors import InvalidInput
from ..model.files.entries import ChunkUse, FileEntry
from ..model.inputs import locate_inputs
from ..model.report import Comparison, Method
from ..progress import Progress
from ..reading.chunk_reader import Buffer, ChunkReader
from ..reading.file_assembly import file_parts, weave
from ..reading.scratch import scratch_folder
from ..repository.repository import Repository

# As xet-core: cuts where 16 bits of a gear hash are zero, at 8 KiB at least, 128 KiB at most.
_LEAST, _TARGET, _MOST = 8 << 10, 64 << 10, 128 << 10
_BELOW = 1 << 48
_ZSTD_LEVEL = 3


def compare_methods(vault: Repository, share: float, seed: int, progress: Progress) -> Comparison:
    """Returns what each method takes for a `share` of the files. Raises InvalidInput for one that
    is none, Corrupt where a file cannot be read."""
    if not 0 < share <= 1:
        raise InvalidInput(f"{share:g} is no share of the files", "give one above 0, at most 1")
    with vault.catalogue.reading() as connection:
        every = list_distinct_files(connection)
    drawn = [file for file in every if _is_drawn(file.digest, share, seed)]
    with scratch_folder("compare-", vault.scratch) as folder:
        meters = _Meters(folder / "seen.sqlite")
        with progress.running("comparing", sum(file.bytes for file in drawn)):
            for file, entry, chunk_bytes in _find_entries(vault, drawn):
                _measure_file(vault, meters, file, entry, chunk_bytes, progress)
        frames = _sum_frames(vault, meters, whole=share == 1)
        meters.close()
    plain, once = sum(f.bytes * f.uses for f in every), sum(f.bytes for f in every)
    measured = "all files" if share == 1 else "sample"
    found = [
        Method("plain files", plain, 0.0, "full", "every file of every commit, an object each"),
        Method("whole files once", once, 0.0, "full", "equal files stored once, uncompressed"),
        Method(
            *("zstd per file", meters.zstd, meters.zstd_seconds, measured),
            note=f"each file by zstd -{_ZSTD_LEVEL}, equal ones each time",
        ),
        Method(
            *("content-defined chunks", meters.cut, meters.cut_seconds, measured),
            note="as Xet: chunks of 64 KiB on average once, the least of plain, LZ4 and LZ4 of "
            "grouped bytes each; without its metadata",
        ),
        Method(
            *("standalone coding", meters.alone, meters.alone_seconds, measured),
            note="weightvault without deltas: distinct chunks, each coded alone",
        ),
        Method(
            *("weightvault", frames, 0.0, measured),
            note="frames as stored, with their part of the bases they need; without metadata and "
            "garbage",
        ),
    ]
    logical = sum(f.bytes * f.uses for f in drawn)
    return Comparison(share, seed, len(drawn), len(every), logical, plain, tuple(found))


class _Meters:
    """Adds up what methods take; `zstd_seconds` and so on are the time they took."""

    def __init__(self, path: Path) -> None:
        self.zstd = self.cut = self.alone = 0
        self.zstd_seconds = self.cut_seconds = self.alone_seconds = 0.0
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self.pieces = _Seen(self._database, "pieces")
        self.chunks = _Seen(self._database, "chunks")
        self.bases = _Seen(self._database, "bases")

    def close(self) -> None:
        """Gives the database up."""
        self._database.close()

    def encode_alone(self, use: ChunkUse, raw: Buffer) -> None:
        """Codes a chunk without a base unless it came before."""
        if self.chunks.add(use.digest):
            start = time.perf_counter()
            alone = encode_tensor(raw, use.dtype, digest=use.digest, columns=use.columns)
            self.alone += len(alone)
            self.alone_seconds += time.perf_counter() - start


class _Seen:
    """A set of digests on disk."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        self._name = name
        database.execute(f"CREATE TABLE {name} (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, digest: bytes) -> bool:
        """Adds one; says whether it is new."""
        insert = f"INSERT OR IGNORE INTO {self._name} VALUES (?)"
        return self._database.execute(insert, (digest,)).rowcount > 0

    def __contains__(self, digest: bytes) -> bool:
        """Says whether it was added."""
        query = f"SELECT 1 FROM {self._name} WHERE digest = ?"
        return self._database.execute(query, (digest,)).fetchone() is not None

    def listed(self) -> Iterator[list[bytes]]:
        """Yields all of them, some hundred at a time."""
        cursor = self._database.execute(f"SELECT digest FROM {self._name}")
        while rows := cursor.fetchmany(500):
            yield [digest for (digest,) in rows]


class _Cutter:
    """Cuts one file into content-defined chunks, and adds up what the new ones take."""

    def __init__(self, meters: _Meters) -> None:
        self._meters = meters
        self._left = b""

    def feed(self, piece: Buffer, *, final: bool = False) -> None:
        """Takes the next bytes of the file."""
        # It loads Numba, which reports that compare nothing need not wait for.
        from ..formats.cutting.gear import cut

        data = np.frombuffer(self._left + bytes(piece), np.uint8)
        start = 0
        for stop in cut(data, (_LEAST, _TARGET, _MOST), _BELOW, _BELOW, final=final).tolist():
            self._add(data[start:stop])
            start = stop
        self._left = data[start:].tobytes()

    def _add(self, chunk: np.ndarray) -> None:
        if self._meters.pieces.add(blake3(chunk.tobytes()).digest(16)):
            self._meters.cut += _shortest(chunk)


def _shortest(chunk: np.ndarray) -> int:
    """Bytes of a chunk as it is, by LZ4, or by LZ4 of its first, second, … bytes of four."""
    whole = chunk[: chunk.size - chunk.size % 4].reshape(-1, 4).T.tobytes()
    grouped = whole + chunk[chunk.size - chunk.size % 4 :].tobytes()
    coded = (lz4.block.compress(data, store_size=False) for data in (chunk.tobytes(), grouped))
    return min(chunk.size, *map(len, coded))


def _is_drawn(digest: bytes, share: float, seed: int) -> bool:
    number = int.from_bytes(blake3(f"{seed}:".encode() + digest).digest(8))
    return number < share * 2**64


def _find_entries(
    vault: Repository, files: list[DistinctFile]
) -> Iterator[tuple[DistinctFile, FileEntry, int]]:
    """Yields each file with what its manifest says of it, and the bytes chunks are cut at."""
    ordered = sorted(files, key=lambda file: (file.manifest, file.path))
    for name, group in groupby(ordered, key=lambda file: file.manifest):
        manifest = vault.load_manifest(name)
        for file in group:
            entry = manifest.file(file.path)
            if entry is not None:
                yield file, entry, manifest.chunk_bytes


def _measure_file(
    vault: Repository,
    meters: _Meters,
    file: DistinctFile,
    entry: FileEntry,
    chunk_bytes: int,
    progress: Progress,
) -> None:
    parts = list(file_parts(entry, chunk_bytes))
    reader = ChunkReader(vault.fetch_frames)
    slices = (part for part in parts if not isinstance(part, bytes))
    packer, cutter, zstd = zstandard.ZstdCompressor(_ZSTD_LEVEL).compressobj(), _Cutter(meters), 0
    for part, piece in zip(parts, weave(parts, reader.read_slices(slices)), strict=True):
        start = time.perf_counter()
        zstd += len(packer.compress(piece))
        middle = time.perf_counter()
        cutter.feed(piece)
        meters.zstd_seconds += middle - start
        meters.cut_seconds += time.perf_counter() - middle
        if not isinstance(part, bytes):
            # A share is a part of what is stored.
            raw = piece if part.is_whole else next(reader.read([part.use]))
            meters.encode_alone(part.use, raw)
        progress.advance(len(piece))
    cutter.feed(b"", final=True)
    meters.zstd += file.uses * (zstd + len(packer.flush()))


def _sum_frames(vault: Repository, meters: _Meters, *, whole: bool) -> int:
    """Bytes of the frames in use of the chunks, each once, and of the bases they need besides.

    Unless the chunks are the `whole` vault, others need those bases as well: then each frame here
    counts for one of all that need it directly, the base itself for another.
    """
    total = 0
    for digests in meters.chunks.listed():
        places = vault.catalogue.locate(digests)
        under = locate_inputs(vault.catalogue.locate, places)
        outer = [place for digest, place in under.items() if digest not in meters.chunks]
        needed = Counter(d for place in (*places.values(), *outer) for d in place.inputs)
        outside = {digest: n for digest, n in needed.items() if digest not in meters.chunks}
        total += sum(place.frame_bytes for place in places.values())
        bases = [place for digest, place in under.items() if digest in outside]
        total += _sum_bases(vault, meters, bases, outside, whole=whole)
    return total


def _sum_bases(
    vault: Repository,
    meters: _Meters,
    bases: list[Location],
    needed: dict[bytes, int],
    *,
    whole: bool,
) -> int:
    if whole:
        return sum(place.frame_bytes for place in bases if meters.bases.add(place.digest))
    with vault.catalogue.reading() as connection:
        counts = count_dependents(connection, list(needed))
    return sum(p.frame_bytes * needed[p.digest] // (counts[p.digest] + 1) for p in bases)

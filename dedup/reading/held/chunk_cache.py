"""A folder of chunks that were read from servers: standalone frames, found by digest and likeness.

Each frame is a file with a sum at its end; an index in SQLite knows sizes, when each was last used,
and which chunks are alike. Several processes may share a folder. It may be deleted at any time, and
nothing that goes wrong with it is an error: what cannot be read from it is asked for again. That a
frame holds the chunk is checked by whoever decodes it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from blake3 import blake3

from ....store.private import make_empty_file, make_folder, opener

_T = TypeVar("_T")

_SUM_BYTES = 16
_PRIVATE = 0o077
_BUSY_SECONDS = 5.0
# Of one key: a family has many members, and the latest are the likeliest to be of use.
_MOST_ALIKE = 8
# Of the disk that the folder is on, so much is left to others.
_FREE_SHARE = 0.05
# SQLite takes as many variables in one statement, whatever its version.
_BATCH = 500
# A file that no row names belongs to somebody who is about to write the row, or died before.
_ORPHAN_SECONDS = 3600.0

_TABLES = """
CREATE TABLE IF NOT EXISTS chunks (digest BLOB PRIMARY KEY, bytes INTEGER, used REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON chunks (used);
CREATE TABLE IF NOT EXISTS alike (key BLOB, digest BLOB, seen REAL, PRIMARY KEY (key, digest))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_digest ON alike (digest);
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER);
INSERT OR IGNORE INTO total VALUES (1, 0);
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A standalone frame of a chunk to be kept, and keys that relatives find it by."""

    digest: bytes
    frame: bytes
    keys: tuple[bytes, ...]


class ChunkCache:
    """At most `limit` bytes of frames below `folder`, which only its owner may read. Safe to use
    from several threads and processes. No method raises because of the folder."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._swept = False

    def holds(self, digests: Collection[bytes]) -> set[bytes]:
        """Returns those of `digests` that there seems to be a frame of, and notes that they are
        used."""

        def look(index: sqlite3.Connection) -> set[bytes]:
            found: set[bytes] = set()
            for batch in _batches(list(digests)):
                query = f"SELECT digest FROM chunks WHERE digest IN ({_marks(batch)})"
                there = [row[0] for row in index.execute(query, batch)]
                used = f"UPDATE chunks SET used = ? WHERE digest IN ({_marks(there)})"
                if there:
                    index.execute(used, [time.time(), *there])
                found.update(there)
            return found

        return self._ask(look) or set()

    def find_alike(self, keys: Collection[bytes]) -> dict[bytes, list[bytes]]:
        """Returns the digests of chunks that were kept by one of `keys`, by key, newest first."""

        def look(index: sqlite3.Connection) -> dict[bytes, list[bytes]]:
            found: dict[bytes, list[bytes]] = {}
            for batch in _batches(list(keys)):
                query = f"SELECT key, digest FROM alike WHERE key IN ({_marks(batch)})"
                for key, digest in index.execute(f"{query} ORDER BY seen DESC", batch):
                    found.setdefault(key, []).append(digest)
            return found

        return self._ask(look) or {}

    def get(self, digest: bytes) -> bytes | None:
        """Returns the frame that was kept for a chunk, None where there is none or it is
        damaged."""
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            data = b""
        frame, told = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
        if not frame or _sum(frame) != told:
            self.drop(digest)
            return None
        return frame

    def put(self, items: Sequence[Kept]) -> None:
        """Keeps frames, and lets go of what was not used for longest where that is too much."""
        now = time.time()
        rows = [
            (item, len(item.frame) + _SUM_BYTES)
            for item in items
            if len(item.frame) + _SUM_BYTES <= self._limit and self._write(item.digest, item.frame)
        ]

        def note(index: sqlite3.Connection) -> list[bytes]:
            index.execute("BEGIN IMMEDIATE")
            for item, size in rows:
                row = (item.digest, size, now)
                if index.execute("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?)", row).rowcount:
                    index.execute("UPDATE total SET bytes = bytes + ?", (size,))
                for key in item.keys:
                    _note_alike(index, key, item.digest, now)
            gone = self._make_room(index)
            index.execute("COMMIT")
            return gone

        gone = (self._ask(note) or []) if rows else []
        for each in gone:
            self._remove(each)
        if gone and not self._swept:
            self._swept = True
            self._sweep()

    def drop(self, digest: bytes) -> None:
        """Lets go of a chunk."""

        def forget(index: sqlite3.Connection) -> None:
            index.execute("BEGIN IMMEDIATE")
            _forget(index, digest)
            index.execute("COMMIT")

        self._ask(forget)
        self._remove(digest)

    def _remove(self, digest: bytes) -> None:
        with suppress(OSError):
            self._path(digest).unlink(missing_ok=True)

    def _make_room(self, index: sqlite3.Connection) -> list[bytes]:
        gone: list[bytes] = []
        (total,) = index.execute("SELECT bytes FROM total").fetchone()
        while total > self._limit:
            oldest = index.execute("SELECT digest, bytes FROM chunks ORDER BY used LIMIT 1")
            row = oldest.fetchone()
            if row is None:
                # Somebody changed the index by hand.
                index.execute("UPDATE total SET bytes = 0")
                break
            _forget(index, row[0])
            total -= row[1]
            gone.append(row[0])
        return gone

    def _write(self, digest: bytes, frame: bytes) -> bool:
        path = self._path(digest)
        if path.exists():
            return True
        temporary = path.with_name(f".{token_hex(8)}")
        try:
            make_folder(self._folder)
            make_folder(path.parent)
            usage = shutil.disk_usage(self._folder)
            if usage.free - len(frame) < _FREE_SHARE * usage.total:
                return False
            with open(temporary, "xb", opener=opener(_PRIVATE)) as file:
                file.write(frame)
                file.write(_sum(frame))
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        return True

    def _sweep(self) -> None:
        """Removes files that no row names: a process that is killed leaves them."""
        latest = time.time() - _ORPHAN_SECONDS
        for folder in self._folder.glob("??"):
            with suppress(OSError):
                old = [e for e in os.scandir(folder) if e.stat().st_mtime < latest]
                named = {e.name: e for e in old}
                digests = [bytes.fromhex(n) for n in named if not n.startswith(".")]
                kept = {digest.hex() for digest in self.holds(digests)}
                for name in named.keys() - kept:
                    os.unlink(named[name])

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name

    def _ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Returns what `work` does with the index, opened for this use alone, so that forked
        processes share none; None where it fails, which is nobody's concern."""
        path = self._folder / "index.sqlite"
        try:
            with closing(self._open(path)) as index:
                return work(index)
        except (OSError, sqlite3.OperationalError):
            # Busy for too long, or a disk that is full or cannot be written to.
            return None
        except sqlite3.DatabaseError:
            # Damaged: it is made anew.
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None

    def _open(self, path: Path) -> sqlite3.Connection:
        if not path.exists():
            make_folder(self._folder)
            make_empty_file(path)
        index = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            # What a power cut takes is read from the server again.
            index.execute("PRAGMA synchronous = OFF")
            if not index.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                index.executescript(_TABLES)
        except BaseException:
            index.close()
            raise
        return index


def _note_alike(index: sqlite3.Connection, key: bytes, digest: bytes, now: float) -> None:
    index.execute("INSERT OR REPLACE INTO alike VALUES (?, ?, ?)", (key, digest, now))
    index.execute(
        "DELETE FROM alike WHERE key = ? AND digest NOT IN"
        " (SELECT digest FROM alike WHERE key = ? ORDER BY seen DESC LIMIT ?)",
        (key, key, _MOST_ALIKE),
    )


def _forget(index: sqlite3.Connection, digest: bytes) -> None:
    row = index.execute("SELECT bytes FROM chunks WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        index.execute("DELETE FROM chunks WHERE digest = ?", (digest,))
        index.execute("UPDATE total SET bytes = max(0, bytes - ?)", (row[0],))
    index.execute("DELETE FROM alike WHERE digest = ?", (digest,))


def _sum(frame: bytes) -> bytes:
    return blake3(frame).digest(_SUM_BYTES)


def _batches(items: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]


def _marks(batch: Sequence[bytes]) -> str:
    return ",".join("?" * len(batch))

"""A folder on the local disk in front of a far object store: what was read once is read from there.

Packs are cached in blocks of a fixed size, so it does not matter in which ranges they are read.
They never change, so nothing in the folder is ever out of date; it may be deleted at any time.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import xxhash

from ..backend import Backend, BytesLike, ObjectInfo, resolve_range
from ..object_keys import is_pack
from ..private import PRIVATE_UMASK, opener

# Reading this much takes S3 hardly longer than reading a byte of it, and most frames are no longer.
BLOCK_BYTES = 1 << 20
_SUM_BYTES = 8
# Sizes of packs that are kept in mind, so that asking for them costs one request a pack.
_SIZES_KEPT = 100_000


class CachedBackend(Backend):
    """Another backend, with blocks of its packs kept in `folder`, at most `limit` bytes of them.

    What is read often stays: a block that makes room is spared as long as it was read again since
    it was last spared. So bases, which serve every model of their family, outlast the deltas on
    them, which are read once. A file that lost bytes or has others than were written is dropped and
    read again; a folder that cannot be written to is no error. Several processes may share a
    folder; each keeps to the limit by what it has seen itself.
    """

    def __init__(self, inner: Backend, folder: str | os.PathLike[str], limit: int) -> None:
        self._inner = inner
        self._folder = Path(folder)
        self._limit = limit
        self._lock = threading.RLock()
        # Next to go first. Values: bytes, and reads to its credit.
        self._held: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._bytes = 0
        self._pack_size = lru_cache(_SIZES_KEPT)(inner.size)
        self._find_held()

    def put(self, key: str, data: BytesLike) -> None:
        self._inner.put(key, data)

    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        self._inner.put_file(key, path)

    def put_new(self, key: str, data: BytesLike) -> bool:
        return self._inner.put_new(key, data)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if not is_pack(key):
            return self._inner.get(key, start, stop)
        size = self._pack_size(key)
        start, stop = resolve_range(key, size, start, stop)
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        data = b"".join(self._blocks(key, first, last, size))
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def size(self, key: str) -> int:
        return self._inner.size(key)

    def exists(self, key: str) -> bool:
        return self._inner.exists(key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix, after=after)

    def delete(self, key: str) -> None:
        self._inner.delete(key)
        self._pack_size.cache_clear()

    def uncached(self) -> Backend:
        return self._inner

    def close(self) -> None:
        self._inner.close()

    def _blocks(self, key: str, first: int, last: int, size: int) -> Iterator[bytes]:
        """Yields the blocks [first, last) of a pack, those that are not held in few requests."""
        at = first
        while at < last:
            held = self._read(key, at, size)
            if held is not None:
                yield held
                at += 1
                continue
            end = at + 1
            while end < last and not self._holds(key, end):
                end += 1
            data = self._inner.get(key, at * BLOCK_BYTES, min(end * BLOCK_BYTES, size))
            for number in range(at, end):
                offset = (number - at) * BLOCK_BYTES
                self._write(key, number, data[offset : offset + BLOCK_BYTES])
            yield data
            at = end

    def _holds(self, key: str, number: int) -> bool:
        with self._lock:
            return _file_name(key, number) in self._held

    def _read(self, key: str, number: int, size: int) -> bytes | None:
        """Returns a block if it is held and whole."""
        name = _file_name(key, number)
        try:
            stored = (self._folder / name).read_bytes()
        except OSError:
            self._forget(name)
            return None
        data, checksum = stored[:-_SUM_BYTES], stored[-_SUM_BYTES:]
        expected = min(BLOCK_BYTES, size - number * BLOCK_BYTES)
        if len(data) != expected or xxhash.xxh3_64_digest(data) != checksum:
            self._drop(name)
            return None
        self._note(name, len(stored))
        return data

    def _write(self, key: str, number: int, data: bytes) -> None:
        name = _file_name(key, number)
        stored = data + xxhash.xxh3_64_digest(data)
        temp = self._folder / f"tmp-{uuid4().hex}"
        with self._lock:
            self._make_room(len(stored))
        try:
            # For this user alone, also where the folder was made for more.
            with open(temp, "xb", opener=opener(PRIVATE_UMASK)) as file:
                file.write(stored)
            os.replace(temp, self._folder / name)
        except OSError:
            with suppress(OSError):
                temp.unlink()
            return
        self._note(name, len(stored))

    def _note(self, name: str, length: int) -> None:
        """Counts a reading, or a new block."""
        with self._lock:
            if name in self._held:
                self._held[name] = (length, self._held[name][1] + 1)
            else:
                self._held[name] = (length, 0)
                self._bytes += length

    def _make_room(self, wanted: int) -> None:
        while self._held and self._bytes + wanted > self._limit:
            name, (length, credit) = self._held.popitem(last=False)
            if credit:
                self._held[name] = (length, credit // 2)
                continue
            self._bytes -= length
            with suppress(OSError):
                (self._folder / name).unlink()

    def _find_held(self) -> None:
        """Takes over what an earlier process left, oldest first to go."""
        found: list[tuple[float, str, int]] = []
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                # Another process may remove it meanwhile.
                with suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime, path.name, status.st_size))
        for _, name, size in sorted(found):
            self._note(name, size)
        self._make_room(0)

    def _drop(self, name: str) -> None:
        self._forget(name)
        with suppress(OSError):
            (self._folder / name).unlink()

    def _forget(self, name: str) -> None:
        with self._lock:
            length, _ = self._held.pop(name, (0, 0))
            self._bytes -= length


def _file_name(key: str, number: int) -> str:
    return f"{key.rpartition('/')[2]}-{number}"

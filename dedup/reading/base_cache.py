"""Bases at hand: raw bytes of chunks that deltas are read with."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

Buffer = bytes | bytearray | memoryview


class BaseCache:
    """Keeps the most recently used buffers up to a total of `limit` bytes; safe to use from
    several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._size = 0
        self._items: OrderedDict[bytes, Buffer] = OrderedDict()

    def get(self, digest: bytes) -> Buffer | None:
        """Returns what is kept for a digest, as the most recently used."""
        with self._lock:
            raw = self._items.get(digest)
            if raw is not None:
                self._items.move_to_end(digest)
            return raw

    def put(self, digest: bytes, raw: Buffer) -> None:
        """Keeps a buffer, and lets go of the oldest ones beyond the limit."""
        with self._lock:
            if digest not in self._items:
                self._items[digest] = raw
                self._size += len(raw)
            while self._size > self._limit and len(self._items) > 1:
                self._size -= len(self._items.popitem(last=False)[1])

"""Objects in this process's memory, for tests and embedded use. Nothing outlives the process."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..backend import (
    Backend,
    BytesLike,
    ObjectInfo,
    check_key,
    check_prefix,
    check_range,
    resolve_range,
)
from ..errors import NotFound


class MemoryBackend(Backend):
    """A dictionary of objects."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}
        # One lock for all: listing sorts the keys while others put and delete.
        self._lock = threading.Lock()

    def put(self, key: str, data: BytesLike) -> None:
        check_key(key)
        with self._lock:
            self._objects[key] = (bytes(data), time.time())

    def put_new(self, key: str, data: BytesLike) -> bool:
        check_key(key)
        with self._lock:
            stored = self._objects.setdefault(key, new := (bytes(data), time.time()))
        return stored is new

    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        check_key(key)
        self.put(key, Path(path).read_bytes())

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        check_range(start, stop)
        data = self._find(key)
        start, stop = resolve_range(key, len(data), start, stop)
        return data[start:stop]

    def size(self, key: str) -> int:
        return len(self._find(key))

    def exists(self, key: str) -> bool:
        return check_key(key) in self._objects

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with self._lock:
            found = [
                ObjectInfo(key, len(data), modified)
                for key, (data, modified) in self._objects.items()
                if key.startswith(prefix) and key > after
            ]
        return iter(sorted(found, key=lambda info: info.key))

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def _find(self, key: str) -> bytes:
        found = self._objects.get(check_key(key))
        if found is None:
            raise NotFound(f"no such object: {key}")
        return found[0]

"""Opens vaults for tests, and backends that fail on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from weightvault.dedup.local_vault import LocalVault
from weightvault.store.backend import Backend, BytesLike, ObjectInfo
from weightvault.store.backends.local import LocalBackend
from weightvault.store.catalogue.catalogue import open_catalogue


def open_local(root: Path, wrap: Callable[[Backend], Backend] = lambda b: b) -> LocalVault:
    """A vault in the folder `root`, its backend passed through `wrap`. What it stores outlives
    processes, but need not outlive the machine."""
    root.mkdir(parents=True, exist_ok=True)
    backend = wrap(LocalBackend(root / "objects", fsync=False))
    catalogue = open_catalogue(f"sqlite:///{root / 'catalogue.sqlite'}")
    return LocalVault(backend, catalogue, scratch=root)


def open_anew(root: Path) -> LocalVault:
    """The vault in the folder `root`, which is closed, after its catalogue was lost: under one that
    is built from the objects."""
    for file in root.glob("catalogue.sqlite*"):
        file.unlink()
    return open_local(root)


class Wrapper(Backend):
    """Passes everything on to another backend; subclasses change what they test."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def put(self, key: str, data: BytesLike) -> None:
        self.inner.put(key, data)

    def put_new(self, key: str, data: BytesLike) -> bool:
        return self.inner.put_new(key, data)

    def put_file(self, key: str, path) -> None:
        self.inner.put_file(key, path)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        return self.inner.get(key, start, stop)

    def size(self, key: str) -> int:
        return self.inner.size(key)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, after=after)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def close(self) -> None:
        self.inner.close()


class FailingWrites(Wrapper):
    """Raises `error` instead of the write number `at` (from 0) and all later ones.

    With `after` it carries that write out first: the outcome a caller cannot know.
    """

    def __init__(self, inner: Backend, at: int, error: Exception, *, after: bool = False) -> None:
        super().__init__(inner)
        self.writes = 0
        self._at = at
        self._error = error
        self._after = after

    def put(self, key: str, data: BytesLike) -> None:
        self._write(lambda: self.inner.put(key, data))

    def put_file(self, key: str, path) -> None:
        self._write(lambda: self.inner.put_file(key, path))

    def put_new(self, key: str, data: BytesLike) -> bool:
        self._write(lambda: self.inner.put_new(key, data))
        return True

    def _write(self, carry_out: Callable[[], object]) -> None:
        number = self.writes
        self.writes += 1
        if number < self._at:
            carry_out()
            return
        if number == self._at and self._after:
            carry_out()
        raise self._error


class CountingReads(Wrapper):
    """Counts the bytes and requests of reads."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.requests = 0
        self.bytes = 0

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        data = self.inner.get(key, start, stop)
        self.requests += 1
        self.bytes += len(data)
        return data

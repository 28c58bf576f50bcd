"""Vaults whose writes fail, each in turn: those of objects, or those of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event
from vaults import Wrapper

from weightvault.dedup.local_vault import LocalVault
from weightvault.store.backends.local import LocalBackend
from weightvault.store.catalogue.catalogue import open_catalogue


class Crash(BaseException):
    """Ends the work as SIGKILL would: nobody handles it, nothing is cleaned up in the catalogue."""


class Faults:
    """Raises at the write call numbered `at`, before or after carrying it out, and at all later
    ones: a process that died makes no more."""

    def __init__(self, at: int, *, after: bool, error: type[Exception] | None = None) -> None:
        self.at, self.after, self.error = at, after, error
        self.seen = 0

    def call(self, carry_out: Callable[[], object] = lambda: None) -> None:
        number, self.seen = self.seen, self.seen + 1
        if number < self.at or (number == self.at and self.after):
            carry_out()
        if number >= self.at:
            raise self.error("no space left") if self.error else Crash


class FaultyWrites(Wrapper):
    def __init__(self, inner, faults: Faults) -> None:
        super().__init__(inner)
        self.faults = faults

    def put(self, key: str, data) -> None:
        self.faults.call(lambda: self.inner.put(key, data))

    def put_new(self, key: str, data) -> bool:
        self.faults.call(lambda: self.inner.put_new(key, data))
        return True

    def put_file(self, key: str, path) -> None:
        self.faults.call(lambda: self.inner.put_file(key, path))

    def delete(self, key: str) -> None:
        self.faults.call(lambda: self.inner.delete(key))


def open_faulty(root: Path, faults: Faults, *, statements: bool) -> LocalVault:
    """A vault whose writes fail as `faults` says: those of objects, or those of the catalogue."""
    backend = LocalBackend(root / "objects", fsync=False)
    catalogue = open_catalogue(f"sqlite:///{root / 'catalogue.sqlite'}")
    if statements:

        def check(_c, _u, text: str, *_) -> None:
            if text.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
                faults.call()

        vault = LocalVault(backend, catalogue, scratch=root)
        event.listen(catalogue.engine, "before_cursor_execute", check)
        event.listen(catalogue.engine, "commit", lambda _: faults.call())
        return vault
    return LocalVault(FaultyWrites(backend, faults), catalogue, scratch=root)

"""The database of a catalogue: transactions, and what every module with queries writes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from ...cancel import check_cancelled
from .engine import sqlite_file, store_error
from .journal_chain import heads_in, note_entry
from .rows import identity_of
from .schema import journal

# What a journal entry will be, given the greatest key taken in, which it has to follow, and the
# heads, which it has to name (chain.py): its key, and what stores it. Called when nobody else can
# change the repo any more, so that the entries of one are in the order in which it changed,
# whatever clocks say.
MakeEntry = Callable[[str | None, tuple[str, ...]], tuple[str, Callable[[], object]]]


class Database:
    """Transactions on a catalogue's tables. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        on_server = engine.dialect.name == "postgresql"
        self._insert = postgresql.insert if on_server else sqlite.insert
        self._reading: dict[str, Any] = {"reading": True}
        if on_server:
            self._reading["isolation_level"] = "REPEATABLE READ"

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @property
    def url(self) -> str:
        """The database's address, without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The file that holds the database, None where it is in memory or on a server."""
        return sqlite_file(self.engine.url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, from one moment's state."""
        try:
            with self.engine.execution_options(**self._reading).begin() as connection:
                yield connection
        except DBAPIError as error:
            check_cancelled()
            raise store_error(error) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; raising inside undoes all of it."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise store_error(error) from error

    def take_entry(self, connection: Connection, key: str) -> bool:
        """Notes a journal entry; says whether it was new."""
        return note_entry(connection, self.add_once, key)

    def make_entry(self, connection: Connection, key: str | MakeEntry) -> Callable[[], object]:
        """Takes the key of an entry that is still to be written; returns what writes it."""
        if isinstance(key, str):
            return lambda: None
        last = connection.scalar(select(func.max(journal.c.key)))
        made, publish = key(last, heads_in(connection))
        self.take_entry(connection, made)
        return publish

    def add_once(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
        """Inserts the rows that are not there yet; returns how many."""
        return len(self.add_new(connection, table, rows))

    def add_new(
        self, connection: Connection, table: Table, rows: list[dict[str, Any]]
    ) -> list[Any]:
        """As add_once, but returns the primary keys of what was inserted, as rows."""
        if not rows:
            return []
        # Who adds a row that another transaction has added waits for that to end (PostgreSQL): all
        # add them in one order, so that no two wait for each other.
        names = identity_of(table)
        rows = sorted(rows, key=lambda row: [row[name] for name in names])
        # Not by rowcount: drivers do not know it of many rows at once (psycopg).
        inserted = self._insert(table).on_conflict_do_nothing().returning(*table.primary_key)
        return list(connection.execute(inserted, rows).all())

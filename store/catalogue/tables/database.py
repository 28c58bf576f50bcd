"""The database of a catalogue: how it is opened, its transactions, and what every module with
queries writes through.

SQLite has the settings that make it safe; PostgreSQL has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, make_url, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError

from ...cancel import check_cancelled, is_cancelled
from ...errors import (
    AccessDenied,
    CorruptObject,
    StorageFull,
    StoreError,
    Superseded,
    Unavailable,
    VaultError,
)
from ...private import PRIVATE_UMASK, make_empty_file
from .journal_chain import heads_in, note_entry
from .migrate import OnStep, prepare_schema
from .rows import identity_of
from .schema import journal

# Walks along edges are expected to find thousands of rows and find a few: what is compiled for so
# many costs a second, and scans of a table seem cheaper than the look-ups that there will be.
# Indexes lie in memory or on disks without arms, where the default of 4 holds for neither.
_POSTGRESQL_SETTINGS = {"jit": "off", "random_page_cost": "1.1"}
# How long a writer waits for another one; a commit of 10,000 tensors holds the lock under 1 s.
BUSY_TIMEOUT_SECONDS = 30.0
# Steps of SQLite between two looks: some 10 ms.
_LOOK_STEPS = 200_000

# Stores a journal entry, or several, and returns their keys. Its arguments are the greatest key
# taken in, which they have to follow, and the heads, which they have to name (journal_chain.py).
# Called when nobody else can change the repo any more, so that the entries of one are in the order
# in which it changed, whatever clocks say.
MakeEntry = Callable[[str | None, tuple[str, ...]], Sequence[str]]


def insert_of(dialect: str) -> Any:
    """Returns the INSERT of a database that can say what to do on a conflict."""
    if dialect == "postgresql":
        # With all its drivers, which SQLite need not wait for.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert
    return sqlite.insert


class Database:
    """Transactions on a catalogue's tables. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        on_server = engine.dialect.name == "postgresql"
        self._insert = insert_of(engine.dialect.name)
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

    def take_entry(self, connection: Connection, key: str | MakeEntry) -> bool:
        """Notes a journal entry; says whether it was new. One that is still to be written is, and
        `write_entry` notes it."""
        return not isinstance(key, str) or note_entry(connection, self.add_once, key)

    def write_entry(self, connection: Connection, key: str | MakeEntry) -> str:
        """Writes an entry if that is still to be done, and notes it; returns its key. To be called
        last in a transaction: nothing may fail after it."""
        if isinstance(key, str):
            return key
        last = connection.scalar(select(func.max(journal.c.key)))
        made = key(last, heads_in(connection))
        for each in made:
            note_entry(connection, self.add_once, each)
        return made[-1]

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


def open_engine(
    url: str,
    *,
    migrate: bool = False,
    on_step: OnStep | None = None,
    umask: int = PRIVATE_UMASK,
) -> Engine:
    """Returns an engine for `url`, its tables made if the database is new.

    Tables of an older version are brought up to date in SQLite, which one machine uses, and with
    `migrate` in PostgreSQL, where other servers may be at work with the old ones; `on_step` is told
    how far that is. `umask`: the permissions that a new file of SQLite lacks. Raises ValueError for
    a URL that names no supported database, StoreError when the database cannot be opened, was made
    by a newer weightvault or wants migrating.
    """
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"{url!r} is not a database URL such as sqlite:///file") from error
    backend = address.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ValueError(f"catalogue URL {url!r} names neither SQLite nor PostgreSQL")
    engine = _sqlite_engine(address, umask) if backend == "sqlite" else _postgresql_engine(address)
    try:
        with engine.begin() as connection:
            may_migrate = migrate or backend == "sqlite"
            prepare_schema(connection, may_migrate=may_migrate, on_step=on_step)
    except DBAPIError as error:
        raise store_error(error) from error
    return engine


def store_error(error: DBAPIError) -> VaultError:
    """Translates a database error into the kind that says what the caller can do."""
    text = str(error.orig)
    if isinstance(error, IntegrityError):
        # What is looked for first and then written comes to this only beside somebody else.
        return Superseded(f"somebody else changed the same at this moment: {text}")
    if "full" in text or "No space left" in text:
        return StorageFull(f"the catalogue's disk is full: {text}")
    if "malformed" in text or "not a database" in text:
        return CorruptObject(f"the catalogue is damaged: {text}")
    if "readonly" in text:
        return AccessDenied(f"the catalogue cannot be written to: {text}")
    if "disk I/O" in text:
        # What SQLite says of a disk that fails, and of a full one that has no room for its index
        # of the log.
        return Unavailable(f"the catalogue's disk fails or is full: {text}")
    if isinstance(error, OperationalError):
        return Unavailable(f"the catalogue does not answer: {text}")
    return StoreError(f"the catalogue refused: {text}")


def _postgresql_engine(url: URL) -> Engine:
    try:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ValueError(
            "PostgreSQL needs psycopg: pip install 'weightvault[postgresql]'"
        ) from error
    event.listen(engine, "connect", _configure_postgresql)
    return engine


def _configure_postgresql(connection: Any, _record: Any) -> None:
    # Plans made once for all parameters are bad ones for lists of digests of any length.
    connection.prepare_threshold = None
    with connection.cursor() as cursor:
        for name, value in _POSTGRESQL_SETTINGS.items():
            cursor.execute(f"SET {name} = {value}")
    connection.commit()


def sqlite_file(url: URL) -> Path | None:
    """Returns the file that holds a database, None where it is in memory or on a server."""
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name.startswith((":", "file:")):
        return None
    return Path(name)


def _sqlite_engine(url: URL, umask: int) -> Engine:
    file = sqlite_file(url)
    if file is not None:
        # SQLite gives its log and index the mode of the database.
        make_empty_file(file, umask)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling starts them late; "begin" below does it instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer that first reads would fail at its first write if another wrote in between:
    # writers take the lock at once and wait for it.
    reading = connection.get_execution_options().get("reading", False)
    # A long question ends when nobody waits for its answer any more; what writes is short.
    raw = connection.connection.dbapi_connection
    raw.set_progress_handler(is_cancelled if reading else None, _LOOK_STEPS)  # pyright: ignore
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

"""Opens the catalogue's database: SQLite with the settings that make it safe, or PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from . import schema
from .errors import CorruptObject, StorageFull, StoreError, Unavailable

SCHEMA_VERSION = "2"

# How long a writer waits for another one; a commit of 10,000 tensors holds the lock under 1 s.
BUSY_TIMEOUT_SECONDS = 30.0


def open_engine(url: str) -> Engine:
    """Returns an engine for `url`, its tables made if the database is new.

    Raises ValueError for a URL that names no supported database, StoreError when the database
    cannot be opened or was made by a newer weightvault.
    """
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise ValueError(f"{url!r} is not a database URL such as sqlite:///file") from error
    if backend not in ("sqlite", "postgresql"):
        raise ValueError(f"catalogue URL {url!r} names neither SQLite nor PostgreSQL")
    engine = _sqlite_engine(url) if backend == "sqlite" else create_engine(url, pool_pre_ping=True)
    try:
        with engine.begin() as connection:
            _prepare_schema(connection)
    except DBAPIError as error:
        raise store_error(error) from error
    return engine


def store_error(error: DBAPIError) -> StoreError:
    """Translates a database error into the kind that says what the caller can do."""
    text = str(error.orig)
    if "full" in text or "No space left" in text:
        return StorageFull(f"the catalogue's disk is full: {text}")
    if "malformed" in text or "not a database" in text:
        return CorruptObject(f"the catalogue is damaged: {text}")
    if isinstance(error, OperationalError):
        return Unavailable(f"the catalogue does not answer: {text}")
    return StoreError(f"the catalogue refused: {text}")


def _sqlite_engine(url: str) -> Engine:
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
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_schema(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    settings = schema.settings
    version = connection.scalar(select(settings.c.value).where(settings.c.name == "schema_version"))
    if version is None:
        connection.execute(insert(settings).values(name="schema_version", value=SCHEMA_VERSION))
    elif version != SCHEMA_VERSION:
        raise StoreError(
            f"the catalogue has schema version {version}; this weightvault knows {SCHEMA_VERSION}. "
            "Delete it: it is rebuilt from the objects"
        )

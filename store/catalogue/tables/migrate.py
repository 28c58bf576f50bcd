"""Brings the tables of a catalogue's database to the version that this weightvault works with.

A new database gets today's tables at once; one of an older version goes through the migrations in
`migrations/versions`. All of it is one transaction: stopped at any point, it has not happened.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, func, insert, inspect, select

from ...errors import StoreError, UnsupportedFormat
from .fact_schema import metadata
from .schema import settings

HEAD = "0027"
_FOLDER = Path(__file__).parent / "migrations"
# Servers that start together wait here for the first of them (PostgreSQL). Arbitrary but fixed.
_MIGRATION_LOCK = 7_236_190_452

# As Alembic keeps it. Read and written here too, as importing Alembic takes 0.1 s.
_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


# Told before the first version and after each: how many are done, and of how many.
OnStep = Callable[[int, int], object]


def prepare_schema(
    connection: Connection, *, may_migrate: bool, on_step: OnStep | None = None
) -> None:
    """Makes the tables of a new database, or migrates an old one if it may, telling `on_step`.

    Raises StoreError where it may not, UnsupportedFormat for a database of a newer weightvault.
    """
    found = read_version(connection)
    if found == HEAD:
        return
    _lock(connection)
    # Somebody else may have done it while this waited.
    found = read_version(connection)
    if found is None:
        metadata.create_all(connection)
        _version.create(connection)
        connection.execute(insert(_version).values(version_num=HEAD))
    elif found != HEAD:
        _migrate(connection, found, may_migrate, on_step or (lambda _done, _of: None))


def read_version(connection: Connection) -> str | None:
    """Returns the version of the tables, None where there are none."""
    names = set(inspect(connection).get_table_names())
    if _version.name in names:
        return connection.scalar(select(_version.c.version_num))
    # Before migrations there was one version, and a setting that said so.
    return "0001" if settings.name in names else None


def _migrate(connection: Connection, found: str, may_migrate: bool, on_step: OnStep) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    # Versions are made by several at once: their numbers tell no order.
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise UnsupportedFormat(
            f"the catalogue has tables of version {found}; this weightvault knows {HEAD}"
        )
    if not may_migrate:
        raise StoreError(
            f"the catalogue has tables of version {found}, not {HEAD}: stop all servers that use "
            "it and run `weightvault migrate`"
        )
    config.attributes["connection"] = connection
    total = len([*scripts.iterate_revisions(HEAD, found)])
    on_step(0, total)
    done = count(1)
    config.attributes["on_version"] = lambda **_: on_step(next(done), total)
    if not inspect(connection).has_table(_version.name):
        command.stamp(config, found)
    command.upgrade(config, HEAD)


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

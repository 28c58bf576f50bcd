"""Databases of every version become today's; what servers at work rely on is not changed."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from old_catalogues import SCRIPTS, VERSIONS, make_version
from sqlalchemy import Engine, MetaData, create_engine, inspect

from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.tables import database as engines
from weightvault.store.catalogue.tables import schema
from weightvault.store.catalogue.tables.migrate import HEAD, read_version
from weightvault.store.errors import StoreError


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_server").new_url()
    return f"sqlite:///{tmp_path / 'c.sqlite'}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """Bypasses weightvault."""
    made = create_engine(url)
    yield made
    made.dispose()


def differences(engine: Engine) -> list:
    with engine.connect() as connection:
        ours = {"include_name": lambda name, kind, _: (kind, name) != ("table", "alembic_version")}
        return compare_metadata(MigrationContext.configure(connection, opts=ours), schema.metadata)


def test_the_newest_version_is_the_one_worked_with():
    assert ScriptDirectory(str(SCRIPTS)).get_heads() == [HEAD]


def test_migrations_lead_to_the_tables_of_a_new_database(url: str, engine: Engine):
    make_version(engine, HEAD)
    assert differences(engine) == []
    with engine.connect() as connection:
        assert read_version(connection) == HEAD


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_old_databases_keep_what_they_hold(url: str, engine: Engine, version: str):
    make_version(engine, version)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO repos (name) VALUES ('org/kept')")
    open_catalogue(url, migrate=True).close()
    assert differences(engine) == []
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT name FROM repos").scalar() == "org/kept"
    open_catalogue(url).close()


def test_whoever_migrates_is_told_how_far_it_is(url: str, engine: Engine):
    make_version(engine, VERSIONS[0])
    told: list[tuple[int, int]] = []
    open_catalogue(url, migrate=True, on_step=lambda *step: told.append(step)).close()
    steps = len(VERSIONS) - 1
    assert told == [(done, steps) for done in range(steps + 1)]
    open_catalogue(url, migrate=True, on_step=lambda *step: told.append(step)).close()
    assert len(told) == steps + 1


def test_a_database_from_before_migrations(url: str, engine: Engine):
    make_version(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    open_catalogue(url, migrate=True).close()
    assert differences(engine) == []


def test_only_a_database_of_one_machine_is_migrated_unasked(url: str, engine: Engine):
    make_version(engine, "0001")
    if engine.dialect.name == "sqlite":
        open_catalogue(url).close()
        return
    with pytest.raises(StoreError, match="weightvault migrate"):
        open_catalogue(url)
    with engine.connect() as connection:
        assert read_version(connection) == "0001"


def test_a_migration_that_stops_half_way_has_not_happened(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    make_version(engine, "0001")
    tables = inspect(engine).get_table_names()
    executed: list[str] = []
    real = engines.prepare_schema

    def stop_before(limit: int) -> int:
        """Migrates and stops before statement number `limit`; returns how many there were."""
        executed.clear()

        def prepare(connection, **options) -> None:
            from sqlalchemy import event

            def count(*_: object) -> None:
                executed.append("")
                if len(executed) > limit:
                    raise KeyboardInterrupt

            event.listen(connection, "before_cursor_execute", count)
            real(connection, **options)

        monkeypatch.setattr(engines, "prepare_schema", prepare)
        try:
            open_catalogue(url, migrate=True).close()
        except KeyboardInterrupt:
            return -1
        return len(executed)

    limit = 0
    while (done := stop_before(limit)) < 0:
        assert set(inspect(engine).get_table_names()) == set(tables), limit
        limit += 5
    assert done > 30
    monkeypatch.undo()
    assert differences(engine) == []


def test_servers_that_start_at_once_make_the_tables_once(url: str, engine: Engine):
    failures: list[BaseException] = []

    def start() -> None:
        try:
            open_catalogue(url).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert differences(engine) == []


def test_dtypes_of_old_chunks_are_those_of_their_sketches(url: str, engine: Engine):
    make_version(engine, "0005")
    tables = MetaData()
    tables.reflect(engine)
    chunk = {"pack_id": 1, "offset": 8, "frame_bytes": 9, "raw_bytes": 10, "codec": 3}
    with engine.begin() as connection:
        pack = {"id": 1, "name": "0" * 64, "bytes": 100, "frame_bytes": 18}
        connection.execute(tables.tables["packs"].insert().values(pack))
        for number in (1, 2):
            values = {**chunk, "id": number, "digest": bytes([number]) * 32}
            connection.execute(tables.tables["chunks"].insert().values(values))
        known = {"chunk_id": 1, "dtype": 12, "raw_bytes": 10, "bits": b"0" * 32, "words": b""}
        connection.execute(tables.tables["sketches"].insert().values(known))
    open_catalogue(url, migrate=True).close()
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id, dtype FROM chunks ORDER BY id").all()
    assert [tuple(row) for row in rows] == [(1, 12), (2, None)]

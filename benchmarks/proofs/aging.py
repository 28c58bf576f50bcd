"""Makes catalogues those of older versions, for migrations to be done and cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, select, update

from ...dedup.local_vault import LocalVault
from ...dedup.repository.journal.replay import read_sketch_rows
from ...store.catalogue.catalogue import open_catalogue
from ...store.catalogue.edges import replace_inputs
from ...store.catalogue.tables import migrate
from ...store.catalogue.tables.schema import chunks, metadata, packs, spares
from ...store.object_keys import pack_key
from ...store.packs import DELTA, DERIVED, STANDALONE, PackEntry, read_index

# The version that knows chains, and the level of derived frames before.
_CHAINS = "0017"
_OLD_DERIVED = 2

_FOLDER = str(Path(migrate.__file__).parent / "migrations")
VERSIONS = [script.revision for script in ScriptDirectory(_FOLDER).walk_revisions()][1:]


def age_catalogue(url: str, version: str) -> None:
    """Makes the catalogue at `url` what an older weightvault would have made of the same store: its
    tables, and of their rows all that they can hold."""
    engine = open_catalogue(url).engine
    rows = {}
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            found = connection.execute(table.select()).mappings()
            rows[table.name] = [dict(row) for row in found]
        for table in reversed(inspect_tables(connection)):
            table.drop(connection)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", _FOLDER)
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        for table in inspect_tables(connection):
            found = rows.get(table.name, [])
            kept = [_cut_row(row, table, chains=version >= _CHAINS) for row in found]
            if kept:
                connection.execute(table.insert(), kept)
                _advance_ids(connection, table)
    engine.dispose()


def _cut_row(row: Mapping[str, Any], table: Table, *, chains: bool) -> dict[str, Any]:
    """Returns what an older table can hold of a row. Levels before there were `chains` are those of
    deltas and derived frames alone."""
    old = {}
    if "inputs" in table.c and "level" in row:
        old["inputs"] = b"".join(row["inputs"]) or None
    if not chains and "inputs" in table.c and "level" in row:
        old["level"] = _OLD_DERIVED if row["level"] == DERIVED else min(row["level"], DELTA)
    if "base" in table.c and "level" in row:
        is_delta = STANDALONE < row["level"] < DERIVED
        old["base"] = row["inputs"][0] if is_delta else None
    return {name: row[name] for name in row if name in table.c} | old


def relearn(vault: LocalVault) -> None:
    """Puts back what older catalogues could not hold, from the objects: derived frames are read by
    their inputs, and without their sketches chunks would not be planned with others any more."""
    for name in vault.catalogue.pack_names():
        key = pack_key(name)
        size = vault.backend.size(key)
        entries = read_index(lambda start, stop, key=key: vault.backend.get(key, start, stop), size)
        sketches = read_sketch_rows(vault.backend, name, entries)
        _relearn_inputs(vault, name, entries)
        vault.catalogue.add_pack(name, size, entries, sketches)


def _relearn_inputs(vault: LocalVault, pack: str, entries: Sequence[PackEntry]) -> None:
    with vault.catalogue.writing() as connection:
        pack_id = connection.scalar(select(packs.c.id).where(packs.c.name == pack))
        for entry in (entry for entry in entries if entry.level > DELTA):
            for frames in (chunks, spares):
                here = (frames.c.pack_id == pack_id) & (frames.c.offset == entry.offset)
                known = {"inputs": entry.inputs, "level": entry.level}
                forgotten = here & (frames.c.level != entry.level)
                done = connection.execute(update(frames).where(forgotten).values(known))
                if frames is chunks and done.rowcount and entry.derived:
                    chunk = select(chunks.c.id).where(here)
                    # Tables of some versions had the inputs, and another level.
                    mine = connection.execute(chunk).scalar_one()
                    replace_inputs(connection, mine, entry.inputs, entry.inputs)


def inspect_tables(connection: Connection) -> list[Table]:
    """Returns the tables that are really there, those that others refer to first."""
    there = MetaData()
    there.reflect(connection)
    return there.sorted_tables


def _advance_ids(connection: Connection, table: Table) -> None:
    """PostgreSQL counts up from where it was, not from what was inserted."""
    if connection.dialect.name == "postgresql" and "id" in table.c:
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        text = f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"
        connection.exec_driver_sql(text)

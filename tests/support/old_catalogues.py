"""Databases as older versions made them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from weightvault.store.catalogue.tables import migrate

SCRIPTS = Path(migrate.__file__).parent / "migrations"
VERSIONS = [s.revision for s in ScriptDirectory(str(SCRIPTS)).walk_revisions()][::-1]


def make_version(engine: Engine, version: str) -> None:
    """Makes the tables as they were."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)

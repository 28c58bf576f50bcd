"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on a unix socket.

PostgreSQL refuses to run as root, so a suite that does starts it as the user `postgres`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from weightvault.store.catalogue.tables.database import open_engine
from weightvault.store.catalogue.tables.migrate import HEAD
from weightvault.store.catalogue.tables.xet_schema import metadata

HOW_TO_INSTALL = (
    "no PostgreSQL: apt-get install postgresql-15, or name the folder of initdb and postgres "
    "in WEIGHTVAULT_TEST_POSTGRES"
)
START_SECONDS = 30
_USUAL_PLACES = "/usr/lib/postgresql/*/bin"
# A test's cluster need not outlive the machine; durability is not what is tested here.
_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=")
# Nor is what it would do to hundreds of databases that are hardly used.
_SETTINGS = (*_SETTINGS, "autovacuum=off", "checkpoint_timeout=1h", "max_wal_size=8GB")

_RESET = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    f"DO $$BEGIN ASSERT (SELECT version_num FROM alembic_version) = '{HEAD}'; END$$",
    f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY",
)


def find_programs() -> Path | None:
    """Returns the folder with initdb and postgres, None where they are not installed."""
    named = os.environ.get("WEIGHTVAULT_TEST_POSTGRES")
    places = [Path(named)] if named else sorted(Path("/").glob(_USUAL_PLACES[1:]), reverse=True)
    return next((place for place in places if (place / "initdb").is_file()), None)


class PostgresServer:
    """One cluster. Its folder is short, as paths of sockets must be, and removed by `stop`."""

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="wv-pg-", dir="/tmp"))
        self._programs = programs
        self._options = self._run_as()
        initdb = [programs / "initdb", "-D", self._folder / "data", "-U", "postgres", "-A", "trust"]
        options = ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        subprocess.run([*initdb, *options], check=True, stdout=subprocess.DEVNULL, **self._options)
        self._process = self._start()
        self._unused: list[str] = []

    def new_url(self) -> str:
        """Returns the address of a new, empty database."""
        name = f"test_{uuid4().hex[:12]}"
        self._execute("postgres", f"CREATE DATABASE {name}")
        return self._url(name)

    @contextmanager
    def url_with_tables(self) -> Iterator[str]:
        """The address of a database where tables are and nothing else. Databases are emptied and
        used again: each is 300 files."""
        if not self._unused:
            url = self.new_url()
            open_engine(url).dispose()
            self._unused.append(make_url(url).database or "")
        name = self._unused.pop()
        yield self._url(name)
        try:
            self._execute(name, *_RESET)
        except DBAPIError:
            # The test was about other tables.
            return
        self._unused.append(name)

    def _execute(self, database: str, *statements: str) -> None:
        engine = create_engine(
            self._url(database), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def stop(self) -> None:
        """Ends the server, which writes nothing more, and removes its folder."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)
        shutil.rmtree(self._folder)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def _run_as(self) -> dict[str, Any]:
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(self._folder)}
        options: dict[str, Any] = {"cwd": self._folder, "env": environment}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            # Whoever runs the tests reaches the socket through this folder.
            self._folder.chmod(0o711)
            options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        return options

    def _start(self) -> subprocess.Popen[Any]:
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder]
        process = subprocess.Popen(
            [*command, *settings], stderr=subprocess.DEVNULL, **self._options
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert process.poll() is None, "PostgreSQL ended at once"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)
        return process

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", "-q", "-h", self._folder]
        return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0

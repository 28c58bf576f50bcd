"""Starts the PostgreSQL and the S3 server that the tests use, for benchmarks that need them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .tests_support import load_helper


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of an empty object store and an empty database, for --vault and --catalogue."""

    vault: str
    catalogue: str


@contextmanager
def running_services() -> Iterator[Services]:
    """Gives addresses that lead to real server processes on this machine, stopped on the way out;
    or to the S3 server that WEIGHTVAULT_TEST_S3 names (http://KEY:SECRET@HOST:PORT).

    Sets the environment variables that S3 clients of this process and its children need.
    """
    s3, postgres = load_helper("s3_server"), load_helper("postgres_server")
    programs, executable = postgres.find_programs(), s3.find_executable()
    store = s3.named_endpoint()
    if programs is None or (executable is None and store is None):
        raise SystemExit(postgres.HOW_TO_INSTALL if programs is None else s3.HOW_TO_INSTALL)
    for name in s3.FOREIGN_ENVIRONMENT:
        os.environ.pop(name, None)
    with ExitStack() as stack:
        if store is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="services-"))
            store = s3.S3Server(executable, Path(folder))
            stack.callback(store.kill)
            store.start()
        os.environ.update(s3.CLIENT_ENVIRONMENT | store.credentials)
        database = postgres.PostgresServer(programs)
        stack.callback(database.stop)
        yield Services(store.url(store.new_bucket(), "vault"), database.new_url())

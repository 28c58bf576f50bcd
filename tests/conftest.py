"""Fixtures that several folders of tests share."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import boto3.session
import postgres_server as postgres
import pytest
import s3_server as support
from s3_faults import FaultProxy

# Started in the background, pytest ignores interrupts, and so does all that it starts: tests of
# interrupts would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What one test read must not be there for the next one.
os.environ["WEIGHTVAULT_CHUNKS_BYTES"] = "0"


# Two each, of the servers that tests of the API and of pages share, and of one that a file has.
_SHARED_THREADS = 6
# What is cut off in its work may take a while to notice.
_END_SECONDS = 60.0


@pytest.fixture(scope="module", autouse=True)
def no_servers_left() -> Iterator[None]:
    """Fails where a file leaves a server's threads: they go on looking for work in a vault that is
    gone, and hundreds of them take a processor from all tests that follow."""
    yield
    deadline = time.monotonic() + _END_SECONDS
    while _count_threads() > _SHARED_THREADS:
        assert time.monotonic() < deadline, "a server was started and not stopped"
        time.sleep(0.1)


def _count_threads() -> int:
    return sum(thread.name in ("encoder", "jobs") for thread in threading.enumerate())


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.S3Server]:
    """A running S3 server; its credentials are in the environment until the session ends."""
    executable = support.find_executable()
    if executable is None:
        # Where tests decide about a release, a missing server must not pass for a success.
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(support.HOW_TO_INSTALL)
    with pytest.MonkeyPatch.context() as patch:
        for name in support.FOREIGN_ENVIRONMENT:
            patch.delenv(name, raising=False)
        for name, value in support.CLIENT_ENVIRONMENT.items():
            patch.setenv(name, value)
        server = support.S3Server(executable, tmp_path_factory.mktemp("s3"))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def s3_url(s3_server: support.S3Server) -> str:
    """The address of an empty store on the S3 server."""
    return s3_server.url(s3_server.new_bucket(), "vault")


@pytest.fixture(scope="session")
def s3_session() -> boto3.session.Session:
    """What S3 clients share: it takes 0.2 s to load."""
    return boto3.session.Session()


@pytest.fixture
def proxy(
    s3_server: support.S3Server,
    s3_session: boto3.session.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FaultProxy]:
    """A proxy in front of the S3 server that fails as it is told to."""
    monkeypatch.setattr(boto3.session, "Session", lambda: s3_session)
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets boto3 and the backend try again at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PostgresServer]:
    """A running PostgreSQL."""
    programs = postgres.find_programs()
    if programs is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(postgres.HOW_TO_INSTALL)
    server = postgres.PostgresServer(programs)
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: postgres.PostgresServer) -> Iterator[str]:
    """The address of a PostgreSQL database with nothing but tables."""
    with postgres_server.url_with_tables() as url:
        yield url

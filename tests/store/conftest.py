"""Catalogues, backends, and S3 that fails, as the tests of the store need them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import boto3.session
import pytest
from botocore.config import Config
from moto.moto_server import threaded_moto_server
from moto.moto_server.threaded_moto_server import (
    DomainDispatcherApplication,
    ThreadedMotoServer,
)
from places import (
    LEAST_PART_BYTES,
    PART_BYTES,
    Place,
    cached_place,
    local_place,
    memory_place,
    s3_place,
)
from s3_faults import DATA, FaultProxy
from s3_server import S3Server, find_executable, named_endpoint

from weightvault.store.backends.s3 import S3Backend
from weightvault.store.catalogue.catalogue import Catalogue, open_catalogue


@pytest.fixture(params=["sqlite", "postgresql"])
def catalogue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalogue]:
    """An empty catalogue on each kind of database."""
    if request.param == "sqlite":
        opened = open_catalogue(f"sqlite:///{tmp_path / 'c.sqlite'}")
    else:
        opened = open_catalogue(request.getfixturevalue("postgres_url"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tls_server(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The same server over https."""
    if shutil.which("openssl") is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end("no openssl to make a certificate for an S3 server over TLS: install it")
    executable = find_executable()
    assert executable is not None
    server = S3Server(executable, tmp_path_factory.mktemp("s3tls"), tls=True)
    server.start()
    yield server
    server.kill()


class OneAtATime(DomainDispatcherApplication):
    """Moto looks whether an object is there and then puts it, without a lock of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._one = Lock()

    def __call__(self, *request: Any) -> Any:
        with self._one:
            return super().__call__(*request)


@pytest.fixture(scope="module")
def moto_server() -> Iterator[Callable[[], Place]]:
    """Another maker's S3, in this process: what only one server does is no promise."""
    patch = pytest.MonkeyPatch()
    # It holds to S3's least size of parts, 5 MiB.
    patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART_BYTES)
    patch.setattr(threaded_moto_server, "DomainDispatcherApplication", OneAtATime)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="testkey",
        aws_secret_access_key="testsecret",
        config=Config(s3={"addressing_style": "path"}),
    )

    def make() -> Place:
        bucket = f"test-{uuid4().hex}"
        client.create_bucket(Bucket=bucket)
        return s3_place(client, bucket)

    yield make
    server.stop()
    patch.undo()


# Over https boto3 sends bodies in chunks with the checksum behind them, over http it does not.
PLACES = ["local", "memory", "cached", "s3", "s3-tls", "s3-moto"]
PLACES += ["s3-named"] if named_endpoint() else []


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty backend of each kind."""
    make = {
        "local": lambda: local_place(tmp_path),
        "memory": memory_place,
        "cached": lambda: cached_place(tmp_path),
        "s3": lambda: of_server("s3_server"),
        "s3-tls": lambda: of_server("tls_server"),
        "s3-moto": lambda: request.getfixturevalue("moto_server")(),
        "s3-named": lambda: of_named_server(),
    }

    def of_server(name: str) -> Place:
        server = request.getfixturevalue(name)
        return s3_place(server.client(), server.new_bucket())

    def of_named_server() -> Place:
        server = named_endpoint()
        assert server is not None
        return s3_place(server.client(), server.new_bucket(), LEAST_PART_BYTES)

    place = make[request.param]()
    yield place
    if request.param != "s3-moto":
        # Its client serves all tests.
        place.backend.close()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """An empty bucket."""
    return s3_server.new_bucket()


@pytest.fixture
def backend(proxy: FaultProxy, bucket: str) -> Iterator[S3Backend]:
    """A backend that reaches the server through the proxy; it has one object, "a"."""
    backend = S3Backend(bucket, endpoint_url=proxy.endpoint)
    backend.put("a", DATA)
    proxy.calls.clear()
    yield backend
    backend.close()

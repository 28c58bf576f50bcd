"""S3 as a store: addresses, credentials, listings, and a server that comes and goes."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import CLIENT_ENVIRONMENT, S3Server, find_executable

from weightvault.store.backends.open import open_backend
from weightvault.store.backends.s3 import S3Backend
from weightvault.store.errors import AccessDenied, InvalidKey, NotFound, Unavailable

DATA = bytes(range(256)) * 40


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.new_bucket()


def test_a_server_that_is_not_there_is_named_within_seconds(s3_server: S3Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        backend = open_backend(f"s3://bucket/prefix?endpoint={endpoint}")
        started = time.monotonic()
        with pytest.raises(Unavailable, match=endpoint):
            backend.get("a")
        assert time.monotonic() - started < 15


def test_missing_credentials_are_named(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CLIENT_ENVIRONMENT:
        if "KEY" in name:
            monkeypatch.delenv(name)
    with pytest.raises(AccessDenied, match="credentials"):
        open_backend(s3_server.url("bucket")).get("a")


def test_an_unknown_key_id_is_denied(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    backend_url = s3_server.url(s3_server.new_bucket())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    with pytest.raises(AccessDenied):
        open_backend(backend_url).put("a", b"x")


def test_objects_outlive_a_crash_of_the_server(tmp_path: Path, s3_server: S3Server) -> None:
    executable = find_executable()
    assert executable is not None
    server = S3Server(executable, tmp_path)
    server.start()
    try:
        backend = open_backend(server.url(server.new_bucket(), "p"))
        backend.put("a", DATA)
        server.kill()
        with pytest.raises(Unavailable):
            backend.get("a")
        server.start()
        assert backend.get("a") == DATA
    finally:
        server.kill()


def test_things_beside_the_objects_are_not_listed(s3_server: S3Server, bucket: str) -> None:
    raw = s3_server.client()
    backend = open_backend(s3_server.url(bucket, "deep/prefix"))
    backend.put("a/b", b"x")
    for key in ("deep/prefix/", "deep/prefix/a//b", "deep/prefix/tmp/x", "deep/prefixa", "deep/a"):
        raw.put_object(Bucket=bucket, Key=key, Body=b"y")
    assert [info.key for info in backend.list()] == ["a/b"]
    assert raw.get_object(Bucket=bucket, Key="deep/prefix/a/b")["Body"].read() == b"x"


def test_a_listing_of_several_pages(s3_server: S3Server, bucket: str) -> None:
    raw = s3_server.client()
    keys = [f"k/{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: raw.put_object(Bucket=bucket, Key=key, Body=b""), keys))
    backend = open_backend(s3_server.url(bucket))
    assert [info.key for info in backend.list("k/")] == keys
    assert [info.key for info in backend.list("k/", after=keys[2])] == keys[3:]


@pytest.mark.parametrize("prefix", ["a//b", "..", "a/../b", "x" * 124, "ü"])
def test_a_prefix_obeys_the_rules_for_keys(prefix: str) -> None:
    with pytest.raises(InvalidKey):
        S3Backend("bucket", prefix)


def test_not_found_names_the_key(s3_url: str) -> None:
    with pytest.raises(NotFound, match="packs/ab/nothing"):
        open_backend(s3_url).get("packs/ab/nothing")

"""What every backend promises, looked at from behind: raw access never goes through the backend."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3.session
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer
from s3_server import S3Server, find_executable

from weightvault.store import s3
from weightvault.store.backend import Backend
from weightvault.store.cache import CachedBackend
from weightvault.store.errors import CorruptObject, InvalidKey, NotFound
from weightvault.store.local import LocalBackend
from weightvault.store.memory import MemoryBackend
from weightvault.store.s3 import S3Backend

KIB = 1 << 10
# Small enough that the tests' larger objects go up in several parts.
PART_BYTES = 64 * KIB


@dataclass
class Place:
    """A backend and what lies where it keeps its objects."""

    backend: Backend
    raw: Callable[[], dict[str, bytes]]


def _local(folder: Path) -> Place:
    root = folder / "vault"

    def raw() -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    return Place(LocalBackend(root), raw)


def _memory() -> Place:
    backend = MemoryBackend()
    return Place(backend, lambda: {key: data for key, (data, _) in backend._objects.items()})


def _cached(folder: Path) -> Place:
    inner = MemoryBackend()
    cached = CachedBackend(inner, folder / "cache", 1 << 20)
    return Place(cached, lambda: {key: data for key, (data, _) in inner._objects.items()})


def _s3(client: Any, bucket: str) -> Place:

    def raw() -> dict[str, bytes]:
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        assert all(key.startswith("vault/") for key in keys)
        return {
            key.removeprefix("vault/"): client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }

    backend = S3Backend(
        bucket,
        "vault",
        client=client,
        multipart_from_bytes=4 * PART_BYTES,
        part_bytes=PART_BYTES,
    )
    return Place(backend, raw)


@pytest.fixture(scope="module")
def tls_server(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if shutil.which("openssl") is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end("no openssl to make a certificate for an S3 server over TLS: install it")
    executable = find_executable()
    assert executable is not None
    server = S3Server(executable, tmp_path_factory.mktemp("s3tls"), tls=True)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def moto_server() -> Iterator[Callable[[], Place]]:
    """Another maker's S3, in this process: what only one server does is no promise."""
    patch = pytest.MonkeyPatch()
    # It holds to S3's least size of parts, 5 MiB.
    patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART_BYTES)
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
        return _s3(client, bucket)

    yield make
    server.stop()
    patch.undo()


# Over https boto3 sends bodies in chunks with the checksum behind them, over http it does not.
@pytest.fixture(params=["local", "memory", "cached", "s3", "s3-tls", "s3-moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    make = {
        "local": lambda: _local(tmp_path),
        "memory": _memory,
        "cached": lambda: _cached(tmp_path),
        "s3": lambda: of_server("s3_server"),
        "s3-tls": lambda: of_server("tls_server"),
        "s3-moto": lambda: request.getfixturevalue("moto_server")(),
    }

    def of_server(name: str) -> Place:
        server = request.getfixturevalue(name)
        return _s3(server.client(), server.new_bucket())

    place = make[request.param]()
    yield place
    if request.param != "s3-moto":
        # Its client serves all tests.
        place.backend.close()


BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/./b",
    ".",
    "..",
    "a//b",
    "a/",
    "/a",
    "a\0b",
    "a\n",
    "a b",
    "a\\b",
    "ü",
    "a%2e",
    "~",
    "tmp",
    "tmp/x",
    "x" * 256,
    "/".join(["abcdefghi"] * 91),
]


def test_keys_that_could_lead_elsewhere_are_refused(place: Place, tmp_path: Path) -> None:
    backend = place.backend
    (tmp_path / "file").write_bytes(b"x")
    for use in (
        lambda key: backend.put(key, b"x"),
        lambda key: backend.put_new(key, b"x"),
        lambda key: backend.put_file(key, tmp_path / "file"),
        backend.get,
        backend.size,
        backend.exists,
        backend.delete,
    ):
        for key in BAD_KEYS:
            with pytest.raises(InvalidKey):
                use(key)
    assert place.raw() == {}


def test_prefixes_that_no_key_has_are_refused(place: Place) -> None:
    for prefix in ("/", "/a", "../", "a/../b", "a//", "tmp/", "a b", "ü"):
        with pytest.raises(InvalidKey):
            place.backend.list(prefix)


def test_odd_but_sound_keys_work(place: Place) -> None:
    for key in ("a", "..a", "a..", "...", "-", "x" * 255, "a-/tmp", "tmpx/a", "A/a"):
        place.backend.put(key, b"x")
        assert place.raw() == {key: b"x"}
        assert _keys(place.backend.list()) == [key]
        assert place.backend.get(key) == b"x"
        place.backend.delete(key)


def test_the_longest_key_works(place: Place) -> None:
    key = "/".join(["abcdefghi"] * 90)
    place.backend.put(key, b"x")
    assert place.raw() == {key: b"x"}


@pytest.mark.parametrize(
    "size", [0, 1, KIB, 4 * PART_BYTES - 1, 4 * PART_BYTES, 5 * PART_BYTES + 7]
)
@pytest.mark.parametrize("way", ["put", "put_file"])
def test_bytes_out_are_bytes_in(place: Place, size: int, way: str, tmp_path: Path) -> None:
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    if way == "put":
        place.backend.put("a/b", data)
    else:
        place.backend.put_file("a/b", source)
        assert source.read_bytes() == data
        # The object must not share what may now change.
        source.write_bytes(b"other")
    assert place.raw() == {"a/b": data}
    assert place.backend.get("a/b") == data
    assert place.backend.size("a/b") == size


@pytest.mark.parametrize("wrap", [bytearray, memoryview, lambda data: memoryview(data).cast("I")])
def test_any_buffer_is_stored(place: Place, wrap: Callable[[bytes], memoryview]) -> None:
    place.backend.put("a", wrap(b"12345678"))
    assert place.raw() == {"a": b"12345678"}


def test_a_put_replaces(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"3")
    place.backend.put("a", b"first and longer")
    place.backend.put("a", b"2")
    assert place.raw() == {"a": b"2"}
    place.backend.put_file("a", tmp_path / "file")
    assert place.raw() == {"a": b"3"}


def test_a_new_object_replaces_none(place: Place) -> None:
    assert place.backend.put_new("a/b", b"first")
    assert not place.backend.put_new("a/b", b"second and longer")
    assert place.raw() == {"a/b": b"first"}
    place.backend.put("a/b", b"third")
    assert not place.backend.put_new("a/b", b"fourth")
    place.backend.delete("a/b")
    assert place.backend.put_new("a/b", bytearray(b"fifth"))
    assert place.raw() == {"a/b": b"fifth"}


def test_of_many_who_put_a_new_object_one_does(place: Place) -> None:
    for turn in range(6):
        contents = [bytes([number]) * 100 for number in range(8)]
        ready = threading.Barrier(len(contents))

        def put(data: bytes, key: str = f"new/{turn}", ready: threading.Barrier = ready) -> bool:
            ready.wait()
            return place.backend.put_new(key, data)

        with ThreadPoolExecutor(len(contents)) as pool:
            won = list(pool.map(put, contents))
        assert sum(won) == 1
        assert place.backend.get(f"new/{turn}") == contents[won.index(True)]


def test_long_reads_come_in_one_piece(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "READ_PART_BYTES", 1000)
    data = os.urandom(12_345)
    place.backend.put("packs/a", data)
    for start, stop in [(0, 12_345), (0, 12_000), (7, 12_344), (500, 2500), (500, 2499)]:
        assert place.backend.get("packs/a", start, stop) == data[start:stop]
    with pytest.raises(CorruptObject):
        place.backend.get("packs/a", 0, 12_346)


def test_a_missing_source_file_is_not_a_missing_object(place: Place, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        place.backend.put_file("a", tmp_path / "none")
    assert place.raw() == {}


def test_ranges(place: Place) -> None:
    data = b"0123456789"
    place.backend.put("a", data)
    for start in range(11):
        for stop in (None, *range(start, 11)):
            assert place.backend.get("a", start, stop) == data[start:stop]


def test_ranges_beyond_the_end_are_never_silently_short(place: Place) -> None:
    place.backend.put("a", b"0123456789")
    for start, stop in [
        (0, 11),
        (9, 11),
        (10, 11),
        (11, 11),
        (11, None),
        (20, 30),
        (1 << 40, None),
    ]:
        with pytest.raises(CorruptObject, match="a has 10 bytes"):
            place.backend.get("a", start, stop)


def test_what_is_no_range_is_a_value_error(place: Place) -> None:
    place.backend.put("a", b"0123456789")
    for start, stop in [(-1, None), (-1, 3), (3, 2), (0, -1)]:
        with pytest.raises(ValueError, match="range"):
            place.backend.get("a", start, stop)


def test_ranges_of_an_empty_object(place: Place) -> None:
    place.backend.put("a", b"")
    assert place.backend.get("a") == b""
    assert place.backend.get("a", 0, 0) == b""
    for start, stop in [(0, 1), (1, None), (1, 1)]:
        with pytest.raises(CorruptObject):
            place.backend.get("a", start, stop)


def test_what_is_not_there(place: Place) -> None:
    place.backend.put("a/b/c", b"x")
    for key in ("b", "a", "a/b", "a/b/d", "a/b/c/d"):
        assert not place.backend.exists(key)
        for use in (
            lambda key=key: place.backend.get(key),
            lambda key=key: place.backend.get(key, 0, 0),
            lambda key=key: place.backend.get(key, 5, 9),
            lambda key=key: place.backend.size(key),
        ):
            with pytest.raises(NotFound, match=key):
                use()
        place.backend.delete(key)
    assert place.backend.exists("a/b/c")


def test_deleting_is_idempotent(place: Place) -> None:
    place.backend.put("a/b", b"x")
    place.backend.delete("a/b")
    place.backend.delete("a/b")
    assert place.raw() == {}
    assert not place.backend.exists("a/b")
    place.backend.put("a/b", b"y")
    assert place.raw() == {"a/b": b"y"}


# "." and "-" sort before "/", letters and digits after it: folders must not come out in one piece.
LISTED = sorted(
    [
        "a-b",
        "a.b",
        "a/b",
        "a/b.c",
        "a0/x",
        "B/x",
        "b/a/c",
        "b/a/d",
        "b/a-/e",
        "b/aa",
        "tmp-/x",
        "z",
    ]
)


@pytest.fixture
def listed(place: Place) -> Backend:
    for key in reversed(LISTED):
        place.backend.put(key, key.encode() * 3)
    return place.backend


def _keys(infos: Iterator) -> list[str]:
    return [info.key for info in infos]


def test_a_listing_is_in_the_order_of_the_keys(listed: Backend) -> None:
    infos = list(listed.list())
    assert [info.key for info in infos] == LISTED
    assert all(info.size == 3 * len(info.key) for info in infos)
    # Other machines have other clocks, and some servers count whole seconds.
    assert all(abs(info.modified - time.time()) < 60 for info in infos)


def test_a_prefix_may_end_anywhere(listed: Backend) -> None:
    for prefix in ("a", "a/", "a0", "a0/", "b/a", "b/a/", "b/a/c", "b/", "t", "q", ".", "b/."):
        assert _keys(listed.list(prefix)) == [key for key in LISTED if key.startswith(prefix)]


def test_after_starts_anywhere(listed: Backend) -> None:
    for prefix in ("", "a", "b/"):
        keys = [key for key in LISTED if key.startswith(prefix)]
        for after in [*LISTED, "a/", "b/a/", "0", "zz", "b/a/cc", "b"]:
            expected = [key for key in keys if key > after]
            assert _keys(listed.list(prefix, after=after)) == expected


def test_listing_nothing(place: Place) -> None:
    assert list(place.backend.list()) == []
    assert list(place.backend.list("a/b", after="a")) == []


def test_a_listing_may_be_used_while_objects_go(listed: Backend) -> None:
    infos = listed.list()
    first = next(infos)
    for key in LISTED:
        listed.delete(key)
    assert first.key == LISTED[0]
    assert set(_keys(infos)) <= set(LISTED)


def test_one_key_written_by_many_is_always_whole(place: Place) -> None:
    contents = [bytes([number]) * (20_000 + number) for number in range(6)]
    place.backend.put("a", contents[0])
    done = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            seen.append(place.backend.get("a"))

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(place.backend.put, "a", data) for data in contents * 4]:
            writer.result()
        done.set()
        for reader in readers:
            reader.result()
    assert seen
    assert set(seen) <= set(contents)
    assert place.raw()["a"] in contents
    assert list(place.raw()) == ["a"]


def test_a_backend_closes_with_its_block(place: Place) -> None:
    with place.backend as backend:
        backend.put("a", b"x")
    assert backend is place.backend

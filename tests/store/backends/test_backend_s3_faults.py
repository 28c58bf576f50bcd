"""What the S3 backend makes of a server and a network that fail."""

import threading
import time
from collections.abc import Callable
from itertools import product

import pytest
from s3_faults import (
    DATA,
    Fault,
    FaultProxy,
    cut,
    flip,
    forward,
    ignore_range,
    other_range,
    refuse,
    reset,
    reset_after,
    shorten,
    watch,
)
from s3_server import S3Server

from weightvault.store.backend import Backend
from weightvault.store.backends import s3
from weightvault.store.backends.open import open_backend
from weightvault.store.backends.s3 import S3Backend
from weightvault.store.errors import (
    AccessDenied,
    CorruptObject,
    NoSuchStore,
    StorageFull,
    StoreError,
    Unavailable,
)

USES: dict[str, Callable[[Backend], object]] = {
    "put": lambda backend: backend.put("b", b"new"),
    "get": lambda backend: backend.get("a"),
    "get range": lambda backend: backend.get("a", 5, 9),
    "size": lambda backend: backend.size("a"),
    "exists": lambda backend: backend.exists("a"),
    "list": lambda backend: [info.key for info in backend.list()],
    "delete": lambda backend: backend.delete("a"),
}
PASSING = {
    "500": refuse(500, "InternalError"),
    "503": refuse(503, "SlowDown"),
    "429": refuse(429, "TooManyRequests"),
    "request timeout": refuse(400, "RequestTimeout"),
    "reset": reset,
    "reset after": reset_after,
}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("use", "fault"),
    # An answer to HEAD has no body that could carry the code of a 400.
    sorted({*product(USES, PASSING)} - {*product(("size", "exists"), ("request timeout",))}),
)
def test_a_passing_error_passes(
    backend: S3Backend, proxy: FaultProxy, use: str, fault: str, s3_server: S3Server
) -> None:
    undisturbed = USES[use](S3Backend(backend.bucket, client=s3_server.client()))
    if use == "delete":
        backend.put("a", DATA)
    proxy.calls.clear()
    proxy.faults = [PASSING[fault]] * 2
    assert USES[use](backend) == undisturbed
    assert len(proxy.calls) >= 3


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("use", "fault"),
    [*product(USES, ("500", "503", "reset")), ("put", "request timeout"), ("get", "429")],
)
def test_one_that_does_not_is_reported_as_passing(
    backend: S3Backend, proxy: FaultProxy, use: str, fault: str
) -> None:
    proxy.faults = [PASSING[fault]] * s3.ATTEMPTS
    with pytest.raises(Unavailable):
        USES[use](backend)
    assert len(proxy.calls) == s3.ATTEMPTS


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", AccessDenied),
        (401, "Unauthorized", AccessDenied),
        (400, "ExpiredToken", AccessDenied),
        (403, "QuotaExceeded", StorageFull),
        (400, "InvalidRequest", StoreError),
        (501, "NotImplemented", StoreError),
    ],
)
def test_a_permanent_error_is_reported_at_once(
    backend: S3Backend, proxy: FaultProxy, use: str, status: int, code: str, expected: type
) -> None:
    if use in ("size", "exists"):
        # An answer to HEAD has only its status.
        expected = AccessDenied if status in (401, 403) else StoreError
    # Where HEAD answers 400, boto3 takes it for the wrong region and looks for the right one.
    tries = 2 if use in ("size", "exists") and status == 400 else 1
    proxy.faults = [refuse(status, code)] * tries
    with pytest.raises(expected) as caught:
        USES[use](backend)
    assert type(caught.value) is expected
    assert len(proxy.calls) == tries


@pytest.mark.usefixtures("no_pauses")
def test_a_server_without_space_is_full(backend: S3Backend, proxy: FaultProxy) -> None:
    proxy.faults = [refuse(507, "InsufficientStorage")] * s3.ATTEMPTS
    with pytest.raises(StorageFull):
        backend.put("b", b"new")


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("fault", [cut(0), cut(1), cut(len(DATA) - 1), reset_after])
def test_a_body_cut_short_is_asked_for_again(
    backend: S3Backend, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.faults = [fault, fault]
    assert backend.get("a") == DATA
    proxy.faults = [cut(3)]
    assert backend.get("a", 100, 200) == DATA[100:200]


@pytest.mark.usefixtures("no_pauses")
def test_a_body_always_cut_short_is_never_returned(backend: S3Backend, proxy: FaultProxy) -> None:
    proxy.faults = [cut(len(DATA) - 1)] * s3.ATTEMPTS
    with pytest.raises(Unavailable, match="cut short"):
        backend.get("a")
    assert len(proxy.calls) == s3.ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "start", "stop"),
    [(shorten(1), 5, 90), (shorten(1), 5, None), (ignore_range, 0, 9), (flip, 0, None)],
)
def test_wrong_bytes_are_never_returned(
    backend: S3Backend, proxy: FaultProxy, fault: Fault, start: int, stop: int | None
) -> None:
    proxy.faults = [fault]
    with pytest.raises(CorruptObject):
        backend.get("a", start, stop)


@pytest.mark.parametrize("fault", [ignore_range, other_range])
def test_a_server_without_ranges_is_named_as_such(
    backend: S3Backend, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.faults = [fault]
    with pytest.raises(StoreError, match="does not serve ranges"):
        backend.get("a", 5, 9)


@pytest.mark.usefixtures("no_pauses")
def test_a_server_that_hangs_is_given_up(
    proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.1)
    backend = S3Backend(bucket, endpoint_url=proxy.endpoint)
    event = threading.Event()

    def wait(handler, body: bytes) -> None:
        event.wait(10)
        handler.close_connection = True

    proxy.faults = [wait] * s3.ATTEMPTS
    started = time.monotonic()
    with pytest.raises(Unavailable, match="127"):
        backend.get("a")
    event.set()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("use", USES)
def test_a_missing_bucket_is_not_a_missing_object(s3_server: S3Server, use: str) -> None:
    backend = open_backend(s3_server.url("no-such-bucket"))
    with pytest.raises(NoSuchStore, match=r"no-such-bucket.*create it"):
        USES[use](backend)


def test_a_bucket_that_may_not_be_looked_at_is_there(backend: S3Backend, proxy: FaultProxy) -> None:
    proxy.faults = [forward, refuse(403, "AccessDenied")]
    assert not backend.exists("b")
    # Having been asked for once, it is not asked for again.
    proxy.calls.clear()
    assert not backend.exists("c")
    assert len(proxy.calls) == 1


def test_older_servers_need_no_checksums(
    proxy: FaultProxy, bucket: str, s3_server: S3Server
) -> None:
    seen: list[tuple[str, list[str], bytes]] = []
    for checksums in ("when_supported", "when_required"):
        proxy.faults = [watch(seen)]
        url = f"s3://{bucket}?endpoint={proxy.endpoint}&checksums={checksums}"
        open_backend(url).put("a", b"x")
    assert ["x-amz-checksum-crc32" in names for _, names, _ in seen] == [True, False]


def test_deleting_what_a_server_misses_is_done(backend: S3Backend, proxy: FaultProxy) -> None:
    proxy.faults = [refuse(404, "NoSuchKey")]
    backend.delete("b")
    assert proxy.calls == [f"DELETE /{backend.bucket}/b"]


def test_a_listing_starts_at_the_server_after_the_key(proxy: FaultProxy, bucket: str) -> None:
    seen: list[tuple[str, list[str], bytes]] = []
    backend = S3Backend(bucket, "p", endpoint_url=proxy.endpoint)
    for key in ("a", "b", "c"):
        backend.put(key, b"x")
    proxy.faults = [watch(seen)]
    assert [info.key for info in backend.list(after="b")] == ["c"]
    assert "start-after=p%2Fb" in seen[0][0]


def test_parts_of_a_long_read_fail_alone(
    backend: S3Backend, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_PART_BYTES", 1000)
    proxy.faults = [forward, cut(10), reset, refuse(503, "SlowDown")]
    assert backend.get("a", 0, len(DATA)) == DATA
    proxy.faults = [forward, refuse(403, "AccessDenied")]
    with pytest.raises(AccessDenied):
        backend.get("a", 0, len(DATA))


def test_a_small_object_costs_one_request(backend: S3Backend, proxy: FaultProxy) -> None:
    for use in USES:
        proxy.calls.clear()
        USES[use](backend)
        assert len(proxy.calls) == 1, use

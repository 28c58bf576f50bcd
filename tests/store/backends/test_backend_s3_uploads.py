"""Uploads to S3, whole, in parts and on a condition, to a server that fails at any of them."""

import base64
import threading
import time
import zlib
from pathlib import Path

import pytest
from s3_faults import (
    DATA,
    Fault,
    FaultProxy,
    drop_condition,
    forward,
    refuse,
    reset,
    reset_after,
    watch,
)
from s3_server import S3Server

from weightvault.store.backends import s3
from weightvault.store.backends.s3 import S3Backend
from weightvault.store.errors import AccessDenied, StoreError, Unavailable

PART_BYTES = 1 << 10


def test_a_cut_off_upload_leaves_nothing(
    backend: S3Backend, proxy: FaultProxy, s3_server: S3Server
) -> None:
    proxy.faults = [refuse(403, "AccessDenied")]
    with pytest.raises(AccessDenied):
        backend.put("b", b"new")
    assert not backend.exists("b")
    proxy.faults = [refuse(403, "AccessDenied")]
    with pytest.raises(AccessDenied):
        backend.put("a", b"new")
    assert backend.get("a") == DATA


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("failing", ["create", "first part", "last part", "complete"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [(refuse(503, "SlowDown"), Unavailable), (refuse(403, "AccessDenied"), AccessDenied)],
)
def test_a_failed_upload_in_parts_leaves_nothing(
    proxy: FaultProxy,
    s3_server: S3Server,
    bucket: str,
    failing: str,
    fault: Fault,
    expected: type[StoreError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One part after the other, so that it is known which request the fault meets.
    monkeypatch.setattr(s3, "PARTS_AT_ONCE", 1)
    backend = S3Backend(
        bucket, endpoint_url=proxy.endpoint, multipart_from_bytes=1, part_bytes=PART_BYTES
    )
    good = {"create": 0, "first part": 1, "last part": 3, "complete": 4}[failing]
    proxy.faults = [forward] * good + [fault] * (s3.ATTEMPTS if expected is Unavailable else 1)
    with pytest.raises(expected):
        backend.put("b", DATA[: 3 * PART_BYTES])
    raw = s3_server.client()
    assert "Uploads" not in raw.list_multipart_uploads(Bucket=bucket)
    assert "Contents" not in raw.list_objects_v2(Bucket=bucket)


@pytest.mark.usefixtures("no_pauses")
def test_an_upload_in_parts_survives_passing_errors(
    proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    backend = S3Backend(
        bucket, endpoint_url=proxy.endpoint, multipart_from_bytes=1, part_bytes=PART_BYTES
    )
    fail = refuse(503, "SlowDown")
    proxy.faults = [fail, forward, reset, forward, fail, reset_after, forward]
    backend.put_file("b", tmp_path / "file")
    assert backend.get("b") == DATA


@pytest.mark.usefixtures("no_pauses")
def test_a_completion_whose_answer_is_lost_is_unknown_or_done(
    proxy: FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    backend = S3Backend(
        bucket, endpoint_url=proxy.endpoint, multipart_from_bytes=1, part_bytes=len(DATA)
    )
    proxy.faults = [forward, forward, reset_after]
    try:
        backend.put("b", DATA)
    except Unavailable:
        backend.put("b", DATA)
    stored = s3_server.client().get_object(Bucket=bucket, Key="b")["Body"].read()
    assert stored == DATA


def test_parts_are_read_as_they_are_sent(
    proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Memory stays bounded: no more parts are in memory than are under way."""
    held, most, lock = 0, 0, threading.Lock()
    read_part = s3._read_part

    def counted_read(*place: int) -> bytes:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return read_part(*place)

    def slow(handler, body: bytes) -> None:
        nonlocal held
        time.sleep(0.01)
        with lock:
            held -= 1
        forward(handler, body)

    monkeypatch.setattr(s3, "_read_part", counted_read)
    (tmp_path / "file").write_bytes(DATA)
    backend = S3Backend(
        bucket, endpoint_url=proxy.endpoint, multipart_from_bytes=1, part_bytes=PART_BYTES
    )
    proxy.faults = [forward] + [slow] * (len(DATA) // PART_BYTES)
    backend.put_file("b", tmp_path / "file")
    assert len(DATA) // PART_BYTES > s3.PARTS_AT_ONCE >= most > 1


def test_the_checksums_of_parts_are_named_on_completion(proxy: FaultProxy, bucket: str) -> None:
    """Amazon's servers insist on it, the test server does not."""
    seen: list[tuple[str, list[str], bytes]] = []
    backend = S3Backend(
        bucket, endpoint_url=proxy.endpoint, multipart_from_bytes=1, part_bytes=len(DATA)
    )
    proxy.faults = [forward, forward, watch(seen)]
    backend.put("a", DATA)
    checksum = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()
    assert f"<ChecksumCRC32>{checksum}</ChecksumCRC32>".encode() in seen[0][2]


# Conditions: the first request asks whether the object is there, the second puts it


@pytest.fixture
def sure(backend: S3Backend, proxy: FaultProxy) -> S3Backend:
    """A backend that has seen its bucket, and so asks no third thing."""
    assert not backend.exists("b")
    proxy.calls.clear()
    return backend


@pytest.mark.parametrize("fault", [drop_condition, refuse(501, "NotImplemented")])
def test_servers_without_conditions_still_store(
    sure: S3Backend, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.faults = [forward, fault]
    assert sure.put_new("b", b"new")
    assert sure.get("b") == b"new"
    # What is there is seen before the condition would matter.
    assert not sure.put_new("b", b"newer")
    assert sure.get("b") == b"new"


@pytest.mark.usefixtures("no_pauses")
def test_one_of_two_at_once_is_told_to_come_again(sure: S3Backend, proxy: FaultProxy) -> None:
    busy = refuse(409, "ConditionalRequestConflict")
    proxy.faults = [forward, busy, busy]
    assert sure.put_new("b", b"new")
    proxy.faults = [forward] + [busy] * s3.ATTEMPTS
    with pytest.raises(Unavailable):
        sure.put_new("c", b"new")


@pytest.mark.usefixtures("no_pauses")
def test_a_new_object_whose_answer_is_lost_is_there(sure: S3Backend, proxy: FaultProxy) -> None:
    proxy.faults = [forward, reset_after]
    # The second attempt finds what the first one stored.
    assert not sure.put_new("b", b"new")
    assert sure.get("b") == b"new"


def test_a_condition_that_fails_for_another_reason_is_told(
    sure: S3Backend, proxy: FaultProxy
) -> None:
    proxy.faults = [forward, refuse(403, "AccessDenied")]
    with pytest.raises(AccessDenied):
        sure.put_new("b", b"new")
    assert not sure.exists("b")

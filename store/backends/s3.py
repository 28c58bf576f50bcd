"""Objects in an S3 bucket, through boto3."""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from urllib3.exceptions import HTTPError

from ..backend import (
    Backend,
    BytesLike,
    ObjectInfo,
    byte_view,
    check_key,
    check_prefix,
    check_range,
    is_key,
    resolve_range,
)
from ..errors import CorruptObject, InvalidKey, NotFound, StoreError, Unavailable
from .s3_errors import (
    error_status,
    from_client_error,
    from_connection_error,
    is_missing_key,
    no_such_bucket,
)

# A pack of 64 MiB goes up as one request; a larger one in parts, so that a fault on the way costs
# one part and not all of it.
MULTIPART_FROM_BYTES = 128 << 20
# PARTS_AT_ONCE of these are in memory at a time. S3 wants at least 5 MiB and at most 10,000 parts.
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 4
MAX_PARTS = 10_000
# One connection to S3 gives some 80 MB/s, whatever the network has; longer reads take several.
READ_PART_BYTES = 8 << 20
READS_AT_ONCE = 8
# S3 allows keys of 1,024 bytes; ours take 900 and a "/".
MAX_PREFIX_CHARS = 123
# A server that does not take connections is given up after ATTEMPTS of these, one that refuses them
# after boto3's pauses alone: a second, or 30 times that when told to slow down.
CONNECT_SECONDS = 3
# S3 asks clients to wait this long at most for the first byte; a part of 16 MiB takes less too.
READ_SECONDS = 30
ATTEMPTS = 6
# From 0.1 s, doubling, between attempts to read a body whose connection broke: 3 s in all.
BODY_PAUSE_SECONDS = 0.05
# boto3 keeps 10; readers ask for more ranges than that at once.
MAX_CONNECTIONS = 32

_PART_CHECKSUMS = {f"Checksum{name}" for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """An object that others keep: its key below the prefix, its bytes, its ETag."""

    key: str
    size: int
    etag: str


class S3Backend(Backend):
    """A bucket, or the keys of one that start with `prefix`.

    `client` is a boto3 S3 client to use as it is; without one it is made from the other arguments
    and boto3's own configuration (credentials, AWS_ENDPOINT_URL, region). `checksums` is
    "when_supported" or "when_required"; older stores (Ceph before 18 over https) need the second.
    `addressing` is "path", "virtual" or "auto", by default "path" with an explicit endpoint.

    Objects from `multipart_from_bytes` on go up in parts of `part_bytes`, four of which are in
    memory at a time. Raises ValueError for a bad prefix or option. Does not connect.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Any = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        checksums: str = "when_supported",
        addressing: str | None = None,
        multipart_from_bytes: int = MULTIPART_FROM_BYTES,
        part_bytes: int = PART_BYTES,
    ) -> None:
        if prefix and (len(prefix) > MAX_PREFIX_CHARS or not is_key(f"_/{prefix}")):
            raise InvalidKey(f"not a prefix for keys: {prefix!r}")
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._client = client or _make_client(endpoint_url, region, checksums, addressing)
        self._multipart_from_bytes = multipart_from_bytes
        self._part_bytes = part_bytes
        self._bucket_seen = False

    def put(self, key: str, data: BytesLike) -> None:
        full_key = self._full_key(key)
        view = byte_view(data)
        if len(view) < self._multipart_from_bytes:
            self._put_object(full_key, data if isinstance(data, bytes) else bytes(view))
        else:
            self._put_parts(full_key, len(view), lambda start, stop: bytes(view[start:stop]))

    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        full_key = self._full_key(key)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < self._multipart_from_bytes:
                self._put_object(full_key, file)
            else:
                self._put_parts(full_key, size, partial(_read_part, file.fileno()))

    def put_new(self, key: str, data: BytesLike) -> bool:
        full_key = self._full_key(key)
        # First, for servers that heed no condition.
        if self.exists(key):
            return False
        body = bytes(byte_view(data))
        for attempt in range(1, ATTEMPTS):
            with suppress(_BusyError):
                return self._put_if_absent(full_key, body)
            time.sleep(BODY_PAUSE_SECONDS * 2**attempt)
        return self._put_if_absent(full_key, body)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        check_range(start, stop)
        if stop is None or stop - start < 2 * READ_PART_BYTES:
            return self._get_part(key, start, stop)
        starts = range(start, stop, READ_PART_BYTES)
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            ends = (min(at + READ_PART_BYTES, stop) for at in starts)
            return b"".join(pool.map(partial(self._get_part, key), starts, ends))

    def _get_part(self, key: str, start: int, stop: int | None) -> bytes:
        # boto3 repeats requests, but no longer once it has handed out the body of the answer.
        for attempt in range(1, ATTEMPTS):
            with suppress(_CutBodyError):
                return self._get_once(key, start, stop)
            time.sleep(BODY_PAUSE_SECONDS * 2**attempt)
        return self._get_once(key, start, stop)

    def size(self, key: str) -> int:
        full_key = self._full_key(key)
        with self._errors(full_key):
            try:
                return self._client.head_object(Bucket=self.bucket, Key=full_key)["ContentLength"]
            except ClientError as error:
                if is_missing_key(error):
                    self._confirm_bucket()
                raise

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        return self._list(prefix, after)

    def delete(self, key: str) -> None:
        full_key = self._full_key(key)
        with suppress(NotFound), self._errors(full_key):
            self._client.delete_object(Bucket=self.bucket, Key=full_key)

    def close(self) -> None:
        self._client.close()

    def _full_key(self, key: str) -> str:
        return self.prefix + check_key(key)

    @contextmanager
    def _errors(self, full_key: str) -> Iterator[None]:
        """Raises what boto3 reports as the store's own errors."""
        try:
            yield
        except ClientError as error:
            raise from_client_error(error, self.bucket, full_key) from error
        except (BotoCoreError, HTTPError) as error:
            raise from_connection_error(error, self._client.meta.endpoint_url) from error

    def _confirm_bucket(self) -> None:
        """Raises NoSuchStore unless the bucket is there, once: HEAD answers 404 for both."""
        if self._bucket_seen:
            return
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error_status(error) == 404:
                raise no_such_bucket(self.bucket) from error
            # Reading objects may be allowed where looking at the bucket is not.
            if error_status(error) != 403:
                raise
        self._bucket_seen = True

    def _get_once(self, key: str, start: int, stop: int | None) -> bytes:
        full_key = self._full_key(key)
        with self._errors(full_key):
            answer = self._request_range(full_key, start, stop)
        if answer is None:
            resolve_range(key, self.size(key), start, stop)
            return b""
        with closing(answer["Body"]) as body:
            start, stop = resolve_range(key, _object_size(answer, start), start, stop)
            length = answer.get("ContentLength")
            if length != stop - start:
                raise CorruptObject(f"{key}: asked for [{start}, {stop}), {length} bytes came")
            with self._errors(full_key):
                return _read_body(body)

    def _request_range(self, full_key: str, start: int, stop: int | None) -> Any:
        """Returns the answer, None where the range is empty or begins beyond the end."""
        if start == stop:
            return None
        wanted: dict[str, str] = {"Bucket": self.bucket, "Key": full_key}
        if start or stop is not None:
            wanted["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        try:
            return self._client.get_object(**wanted)
        except ClientError as error:
            if error_status(error) == 416:
                return None
            raise

    def _list(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        options = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        if after:
            options["StartAfter"] = self.prefix + after
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(**options))
        while True:
            with self._errors(options["Prefix"]):
                page = next(pages, None)
            if page is None:
                return
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self.prefix)
                # Not every server heeds StartAfter, and others may keep things in the bucket.
                if key > after and is_key(key):
                    yield ObjectInfo(key, item["Size"], item["LastModified"].timestamp())

    def list_foreign(self) -> Iterator[ForeignObject]:
        """Yields what others keep here, whatever its keys are: those of ours, and all else."""
        options = {"Bucket": self.bucket, "Prefix": self.prefix}
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(**options))
        while True:
            with self._errors(self.prefix):
                page = next(pages, None)
            if page is None:
                return
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self.prefix)
                yield ForeignObject(key, item["Size"], item.get("ETag", "").strip('"'))

    def fetch_foreign(self, key: str, path: str | os.PathLike[str]) -> None:
        """Writes an object that `list_foreign` named to a file. Raises the store's errors."""
        with self._errors(self.prefix + key):
            self._client.download_file(self.bucket, self.prefix + key, os.fspath(path))

    def _put_object(self, full_key: str, body: bytes | BinaryIO) -> None:
        with self._errors(full_key):
            self._client.put_object(Bucket=self.bucket, Key=full_key, Body=body)

    def _put_if_absent(self, full_key: str, body: bytes) -> bool:
        try:
            self._client.put_object(Bucket=self.bucket, Key=full_key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if error_status(error) == 412:
                return False
            if error_status(error) != 501:
                known = from_client_error(error, self.bucket, full_key)
                raise (_BusyError(str(known)) if error_status(error) == 409 else known) from error
            # The server has no conditions.
            self._put_object(full_key, body)
        except (BotoCoreError, HTTPError) as error:
            raise from_connection_error(error, self._client.meta.endpoint_url) from error
        return True

    def _put_parts(self, full_key: str, size: int, read: Callable[[int, int], bytes]) -> None:
        """Uploads in parts, and takes them back unless all are there."""
        target = {"Bucket": self.bucket, "Key": full_key}
        with self._errors(full_key):
            target["UploadId"] = self._client.create_multipart_upload(**target)["UploadId"]
            try:
                parts = self._upload_parts(target, size, read)
                self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
            except BaseException:
                # What went wrong first is what the caller has to know.
                with suppress(ClientError, BotoCoreError):
                    self._client.abort_multipart_upload(**target)
                raise

    def _upload_parts(
        self, target: dict[str, str], size: int, read: Callable[[int, int], bytes]
    ) -> Sequence[dict[str, Any]]:
        step = max(self._part_bytes, -(-size // MAX_PARTS))

        def upload(start: int) -> dict[str, Any]:
            number = start // step + 1
            body = read(start, min(start + step, size))
            answer = self._client.upload_part(**target, PartNumber=number, Body=body)
            # S3 wants the checksums that it confirmed named again when the upload is completed.
            checksums = {name: answer[name] for name in answer if name in _PART_CHECKSUMS}
            return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            return [*pool.map(upload, range(0, size, step))]


class _BusyError(Unavailable):
    """Somebody else was putting the same object."""


class _CutBodyError(Unavailable):
    """The connection broke while the body of an answer was read."""


def _make_client(
    endpoint_url: str | None, region: str | None, checksums: str, addressing: str | None
) -> Any:
    if checksums not in ("when_supported", "when_required"):
        raise ValueError(f"checksums are when_supported or when_required, not {checksums!r}")
    if addressing not in (None, "auto", "path", "virtual"):
        raise ValueError(f"addressing is auto, path or virtual, not {addressing!r}")
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        # Servers other than Amazon's are seldom set up with a DNS name for every bucket.
        s3={"addressing_style": addressing or ("path" if endpoint_url else "auto")},
    )
    try:
        return boto3.session.Session().client(
            "s3", endpoint_url=endpoint_url, region_name=region, config=config
        )
    except BotoCoreError as error:
        raise from_connection_error(error, endpoint_url or "S3") from error


def _object_size(answer: Any, start: int) -> int:
    """Returns the size of the whole object from the headers of an answer."""
    content_range = answer.get("ContentRange")
    if content_range is None and start == 0:
        return answer["ContentLength"]
    found = _CONTENT_RANGE.fullmatch(content_range or "")
    if found is None or int(found[1]) != start:
        raise StoreError(f"the server does not serve ranges as asked for: {content_range!r}")
    return int(found[3])


def _read_body(body: Any) -> bytes:
    try:
        return body.read()
    except (HTTPClientError, IncompleteReadError, HTTPError) as error:
        raise _CutBodyError(f"an answer was cut short: {error}") from error


def _read_part(descriptor: int, start: int, stop: int) -> bytes:
    """Returns bytes of a file without moving its position, for several threads at once."""
    chunks = []
    while start < stop:
        chunk = os.pread(descriptor, stop - start, start)
        if not chunk:
            raise StoreError("the file became shorter while it was stored")
        chunks.append(chunk)
        start += len(chunk)
    return b"".join(chunks)

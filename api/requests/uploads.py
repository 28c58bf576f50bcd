"""Takes in request bodies: into a temporary file, or into memory where they are small."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ...dedup.errors import VaultError
from ..errors import TooLarge, from_os_error
from .callers import quotas_of, upload_namespace
from .quotas import Body

_PREFIX = "upload-"

# Pieces arrive in 64 KiB; handing each to a thread would cost more than writing it.
_WRITE_BYTES = 1 << 20

# An upload still growing is younger than this: servers that share a scratch folder must not take
# each other's files away.
_STALE_SECONDS = 24 * 3600.0

_log = logging.getLogger("weightvault.api")


@asynccontextmanager
async def received_file(
    request: Request, folder: Path, limit: int, *, repo: str | None = None
) -> AsyncIterator[Path]:
    """Gives the request's body as a temporary file in `folder`, removed on every way out.

    `repo`: what it is for, where neither the path nor the caller's token says. Raises TooLarge
    beyond `limit` bytes, StorageFull when the disk is, QuotaExceeded when the namespace has enough
    on its way, ClientDisconnect when the client goes away.
    """
    check_announced(request, limit)
    path = await run_in_threadpool(_new_file, folder)
    body: Body | None = None
    try:
        try:
            namespace = await run_in_threadpool(upload_namespace, request, repo)
            begin = quotas_of(request).begin_body
            body = await run_in_threadpool(begin, namespace, _announced_bytes(request) or 0)
            await _write_body(request, path, limit, body)
        except VaultError:
            await drain(request, limit)
            raise
        yield path
    finally:
        # Not awaited: a cancelled request could not wait for it, and unlink is quick.
        path.unlink(missing_ok=True)
        if body is not None:
            body.end()


async def received_bytes(request: Request, limit: int) -> bytes:
    """Returns the request's body; raises TooLarge beyond `limit` bytes."""
    check_announced(request, limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        _check_size(len(body), limit)
    return bytes(body)


def check_announced(request: Request, limit: int) -> None:
    """Raises TooLarge, before anything is read, if the body is announced to exceed `limit`."""
    announced = _announced_bytes(request)
    if announced is not None:
        _check_size(announced, limit)


def _announced_bytes(request: Request) -> int | None:
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isascii() and announced.isdecimal() else None


async def drain(request: Request, limit: int) -> None:
    """Reads what is left of a body, up to `limit` bytes, and drops it.

    A client reads the answer only after it has sent its body; a connection closed before that
    would lose the error.
    """
    left = limit
    try:
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                return
    except (ClientDisconnect, RuntimeError):
        return


def sweep_uploads(folder: Path) -> None:
    """Removes uploads that a server which was killed left in `folder` a day ago or earlier."""
    horizon = time.time() - _STALE_SECONDS
    for path in folder.glob(f"{_PREFIX}*"):
        try:
            if path.stat().st_mtime < horizon:
                path.unlink()
        except OSError as error:
            _log.warning("left-over upload %s stays: %s", path, error)


def _new_file(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        os.close(handle)
    except OSError as error:
        raise from_os_error(error, "cannot make a temporary file") from error
    return Path(name)


async def _write_body(request: Request, path: Path, limit: int, body: Body) -> None:
    size = 0
    with path.open("wb", buffering=0) as file:
        async for data in _gathered(request):
            size += len(data)
            _check_size(size, limit)
            await run_in_threadpool(_count_and_write, body, size, file, data)


async def _gathered(request: Request) -> AsyncIterator[bytes]:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) >= _WRITE_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held)


def _count_and_write(body: Body, size: int, file: BinaryIO, data: bytes) -> None:
    body.count(size)
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise from_os_error(error, "cannot keep the upload") from error


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"a body of {size} bytes is too large; at most {limit} are taken here")

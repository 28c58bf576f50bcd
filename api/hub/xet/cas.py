"""What Xet clients upload to: xorbs and shards, at an address that names a generation.

Every request carries a token that says for which repo it may write (grants.py). These clients
take a status of 4xx for final, ask for another token after 401, and try for minutes after 5xx.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CancelScope, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ....dedup.errors import InvalidInput, Unreachable, VaultError
from ....dedup.transfer.uploads import KEEP_SECONDS
from ....dedup.transfer.xet_uploads import XetUploads
from ....dedup.xet.hashes import parse_hash
from ....dedup.xet.shard import MAX_SHARD_BYTES, Shard, pack_answer
from ....dedup.xet.xorb import MAX_SERIALISED_BYTES
from ...requests.public_errors import public_error
from ...requests.slots import run_checked
from ...requests.uploads import drain, received_bytes, received_file
from ..errors import HubError
from ..state import hub_of
from .grants import XetGrant, granted

PREFIX = "/-/xet"
"""Where the addresses of generations begin. No namespace of repos is called "-"."""

# So often an answer that takes long says that it is still coming.
_HEARTBEAT_SECONDS = 5.0
_MAX_NOTE_BYTES = 1 << 20
# What clients were told they may count on ends before we forget it.
_ANSWER_SECONDS = int(KEEP_SECONDS) - 24 * 3600

_log = logging.getLogger("weightvault.api")


def uploads_of(request: Request) -> XetUploads:
    """Returns what takes in the uploads of the application's vault."""
    hub = hub_of(request)
    state = request.app.state
    uploads: XetUploads | None = getattr(state, "xet", None)
    if uploads is None or uploads.incoming is not hub.incoming:
        uploads = state.xet = XetUploads(hub.vault, hub.incoming)
    return uploads


async def add_xorb(request: Request) -> Response:
    """POST v1/xorbs: takes in a xorb. Every chunk of it is hashed before this answers."""
    grant, digest, uploads = granted(request), _hash(request), uploads_of(request)

    def add(path: Path) -> bool:
        return uploads.add_xorb(uploads.find_generation(grant.generation), digest, path)

    scratch = request.app.state.vault.scratch
    async with received_file(request, scratch, MAX_SERIALISED_BYTES, repo=grant.repo) as path:
        new = await run_checked(request, add, path, repo=grant.repo)
    return JSONResponse({"was_inserted": new})


async def grant_xorb(request: Request) -> Response:
    """POST v1/xorb-grants: says that a xorb need not be sent, or 404, upon which clients send it.

    Otherwise they would be told another place to send it to, and we have none.
    """
    grant, digest, uploads = granted(request), _hash(request), uploads_of(request)
    await received_bytes(request, _MAX_NOTE_BYTES)

    def knows() -> bool:
        return uploads.knows_xorb(uploads.find_generation(grant.generation), digest)

    if not await to_thread.run_sync(knows):
        raise HubError(404, "send the xorb itself")
    return JSONResponse({"was_inserted": False})


def find_chunk(request: Request) -> Response:
    """GET v1/chunks: answers a client that remembers nothing with the chunks of a xorb that has
    this one."""
    grant, digest, uploads = granted(request), _hash(request), uploads_of(request)
    index = uploads.find_marked(uploads.find_generation(grant.generation), digest)
    if index is None:
        raise HubError(404, "no xorb is known by this chunk")
    now = int(time.time())
    answer = pack_answer(index, now, now + _ANSWER_SECONDS)
    return Response(answer, media_type="application/octet-stream")


async def add_shard(request: Request) -> Response:
    """POST v1/shards: puts the files of a shard together, and answers when they are durable."""
    grant, uploads, state = granted(request), uploads_of(request), request.app.state
    async with received_file(
        request, state.vault.scratch, MAX_SHARD_BYTES, repo=grant.repo
    ) as path:
        work = partial(_add_shard, uploads, grant, path, lambda: None)
        await run_checked(request, work, repo=grant.repo)
    return JSONResponse({"result": 1})


async def add_shard_telling(request: Request) -> Response:
    """POST v2/shards: as `add_shard`, with a line of JSON now and then, so that nobody takes it for
    dead. The last line has the outcome."""
    grant, uploads, state = granted(request), uploads_of(request), request.app.state
    async with AsyncExitStack() as stack:
        receiving = received_file(request, state.vault.scratch, MAX_SHARD_BYTES, repo=grant.repo)
        path = await stack.enter_async_context(receiving)
        work = partial(_add_shard, uploads, grant, path)
        running = partial(run_checked, request, work, repo=grant.repo)
        lines = _tell(request, running, stack.pop_all())
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def take_telemetry(request: Request) -> Response:
    """POST /v1/telemetry: drops what clients tell of themselves. They send it to the root of the
    server, whatever the address of their uploads, and wait for the answer."""
    await drain(request, _MAX_NOTE_BYTES)
    return Response(status_code=204)


def _hash(request: Request) -> bytes:
    try:
        return parse_hash(request.path_params["hash"])
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _add_shard(
    uploads: XetUploads, grant: XetGrant, path: Path, on_file: Callable[[], None]
) -> None:
    generation = uploads.find_generation(grant.generation)
    uploads.add_shard(generation, grant.repo, Shard(path.read_bytes()), on_file)


async def _tell(
    request: Request, run: Callable[[Callable[[], None]], Awaitable[None]], stack: AsyncExitStack
) -> AsyncIterator[bytes]:
    """Does what `run` does and yields lines about it; closes `stack` when it is done. `run` calls
    what it is given for each file."""
    done: list[None] = []
    async with stack:
        task = asyncio.ensure_future(run(partial(done.append, None)))
        try:
            while not (await asyncio.wait({task}, timeout=_HEARTBEAT_SECONDS))[0]:
                yield _line(type="validating", verified=len(done), total=len(done) + 1)
            yield _outcome(task, request)
        finally:
            # The client may have gone away: the thread reads the file that the stack removes.
            with CancelScope(shield=True):
                await asyncio.wait({task})


def _outcome(task: asyncio.Future[None], request: Request) -> bytes:
    try:
        task.result()
    except VaultError as refused:
        _log.warning("a shard was refused (%s): %s", refused.code, refused.message)
        error = public_error(refused, request.app.state.vault)
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        retryable = isinstance(error, Unreachable)
        return _line(type="error", message=message, retryable=retryable)
    return _line(type="result", result=1)


def _line(**event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"

"""Sends bytes as they are made, in worker threads, piece by piece; broken off on failure."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from ...dedup.errors import VaultError
from ..requests.slots import address_key, caller_key
from .downloads import Downloads, Read, Source

# What lies in memory for a client that reads nothing.
_PART_BYTES = 256 << 10
_NOTHING: Message = {"type": "http.response.body", "body": b"", "more_body": True}

_log = logging.getLogger("weightvault.api")


class BytesStream(StreamingResponse):
    """Streams the bytes [first, stop) that `read` yields; `stop` is None if `read` knows the end.

    Raises a VaultError of the first piece before anything is sent, for an error response to take
    its place. When a later one fails the connection is broken instead of being ended: the client
    sees fewer bytes than announced, never a body that looks complete.
    """

    media_type = "application/octet-stream"

    def __init__(
        self,
        read: Read,
        first: int,
        stop: int | None,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(iter(()), status, headers)
        self._source = Source(read, first, stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Makes the first piece, then sends header and pieces."""
        self._downloads: Downloads = scope["app"].state.downloads
        request = Request(scope)
        # Who has a signed address need not have told who they are.
        known = hasattr(request.state, "caller")
        self._client = caller_key(request) if known else address_key(request)
        try:
            if not self._source.done:
                await self._downloads.advance(self._source, self._client)
            await super().__call__(scope, receive, send)
        finally:
            await self._downloads.end(self._source)

    async def stream_response(self, send: Send) -> None:
        """Sends header and pieces; returns without the closing message if the pieces fail.

        A server that gets no closing message drops the connection, as ASGI has it.
        """
        head = {"type": "http.response.start", "status": self.status_code}
        await send({**head, "headers": self.raw_headers})
        try:
            while not self._source.done:
                await self._send_part(send)
        except VaultError as error:
            _log.error("broke off a download (%s): %s", error.code, error.message)
        else:
            await send({**_NOTHING, "more_body": False})

    async def _send_part(self, send: Send) -> None:
        await self._downloads.advance(self._source, self._client)
        # Waits until the client has read what was sent, as any message does. But this one keeps
        # nothing: the piece can be dropped meanwhile, where others need its memory.
        await send(_NOTHING)
        self._downloads.note_read(self._source)
        part = self._source.take(_PART_BYTES)
        if part:
            await send({**_NOTHING, "body": part})

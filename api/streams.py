"""Sends bytes as they are made: in worker threads, piece by piece, broken off on failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

from anyio import CancelScope
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Send

from ..dedup.chunks import Buffer
from ..dedup.errors import VaultError

_PART_BYTES = 1 << 20

_log = logging.getLogger("weightvault.api")


def start(pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    """Makes the first piece now, so that what fails at once still gets an error response."""
    first = next(pieces, None)
    return iter(()) if first is None else _Started(first, pieces)


class _Started:
    """An iterator with its first piece made; closing it closes the source."""

    def __init__(self, first: Buffer, rest: Iterator[Buffer]) -> None:
        self._rest = rest
        self._all = chain((first,), rest)

    def __iter__(self) -> Iterator[Buffer]:
        return self

    def __next__(self) -> Buffer:
        return next(self._all)

    def close(self) -> None:
        _close(self._rest)


class BytesStream(StreamingResponse):
    """Streams an iterator of bytes with one piece in memory at a time.

    When the iterator fails after the header has gone out, the connection is broken instead of
    being ended: the client sees fewer bytes than announced, never a body that looks complete.
    """

    media_type = "application/octet-stream"

    def __init__(
        self, pieces: Iterator[Buffer], status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(iterate_in_threadpool(_cut(pieces)), status, headers)
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        """Sends header and pieces; returns without the closing message if the pieces fail.

        A server that gets no closing message drops the connection, as ASGI has it.
        """
        try:
            await super().stream_response(send)
        except VaultError as error:
            _log.error("broke off a download (%s): %s", error.code, error.message)
        finally:
            # Closing may wait for a read under way, so not in the event loop; and it has to
            # happen though a disconnect has cancelled this task.
            with CancelScope(shield=True):
                await run_in_threadpool(_close, self._pieces)


def _cut(pieces: Iterator[Buffer]) -> Iterator[memoryview]:
    """Yields the same bytes in parts that a connection's buffer should hold."""
    for piece in pieces:
        view = memoryview(piece)
        for first in range(0, len(view), _PART_BYTES):
            yield view[first : first + _PART_BYTES]


def _close(pieces: Iterator[Buffer]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()

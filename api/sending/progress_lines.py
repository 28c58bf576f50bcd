"""Answers a request for long work with lines that tell how far it is, and with its result last."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from anyio import Event, create_task_group, from_thread, to_thread
from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from ...dedup.errors import VaultError
from ...dedup.progress import Progress
from ..errors import error_body
from ..protocol.following import MEDIA_TYPE
from ..requests.public_errors import public_error

# Often enough for a bar that moves, seldom enough to cost nothing.
_LINE_SECONDS = 0.25
_LINES_KEPT = 100

_log = logging.getLogger("weightvault.api")

ProgressParam = Annotated[
    bool, Query(description="answer with lines of JSON: how far it is, and at last the result")
]
TOLD: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {MEDIA_TYPE: {}},
        "description": "The result; where progress is asked for, lines that end with it",
    }
}


class TellingResponse(StreamingResponse):
    """Does `work` in a worker thread, by means of `run` if given, and sends following.py's lines.

    The work ends at its next sign of progress once nobody listens any more. When it fails
    unexpectedly the connection is broken: a body without a result is never taken for a whole one.
    """

    def __init__(
        self,
        work: Callable[[Progress], BaseModel],
        run: Callable[..., Awaitable[BaseModel]] = to_thread.run_sync,
    ) -> None:
        super().__init__(iter(()), media_type=MEDIA_TYPE)
        self._work = work
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, for the application of `scope`."""
        self._state = scope["app"].state
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Sends the header, what the work tells, and its result or error."""
        head = {"type": "http.response.start", "status": self.status_code}
        await send({**head, "headers": self.raw_headers})
        lines = _Lines()
        async with create_task_group() as group:
            group.start_soon(self._do_work, lines)
            async for line in lines:
                body = json.dumps(line).encode() + b"\n"
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _do_work(self, lines: _Lines) -> None:
        try:
            found = await self._run(self._work, _Telling(lines))
            lines.put({"result": found.model_dump(mode="json")})
        except VaultError as error:
            _log.error("%s: %s", error.code, error.message)
            error = public_error(error, self._state.vault)
            lines.put(error_body(error.code, error.message, error.hint))
        lines.close()


class _Lines:
    """Lines on their way to a client. The work never waits for it: where it reads too slowly, it
    misses the oldest. Used in the event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[dict[str, Any]] = deque(maxlen=_LINES_KEPT)
        self._news = Event()
        self._closed = False

    def put(self, line: dict[str, Any]) -> None:
        """Takes in the newest line."""
        self._waiting.append(line)
        self._news.set()

    def close(self) -> None:
        """Ends the lines, once those that wait are sent."""
        self._closed = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while self._waiting or not self._closed:
            if not self._waiting:
                self._news = Event()
                await self._news.wait()
            while self._waiting:
                yield self._waiting.popleft()


class _Telling(Progress):
    """Has a line written at the beginning and the end of each task, and now and then between."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        """See Progress.begin."""
        self._task, self._done, self._total, self._unit = task, 0, total, unit
        self._tell()

    def advance(self, count: int) -> None:
        """See Progress.advance. Raises what cancels the request, if that is over."""
        super().advance(count)
        from_thread.check_cancelled()
        self._done += count
        if self._done == self._total or time.monotonic() - self._told >= _LINE_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        counts = {"done": self._done, "total": self._total, "unit": self._unit}
        from_thread.run_sync(self._lines.put, {"progress": {"task": self._task, **counts}})

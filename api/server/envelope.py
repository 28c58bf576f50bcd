"""What every request and its answer go through, whatever they are for, in one layer.

An answer gets the id of its request, our version, and safe headers. What is done for a request ends
once its client is gone, or the server stops. Then logs, the audit and metrics take note of it.
"""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ...store.cancel import Cancelled, CancelToken, cancelled_by
from ..errors import Overloaded, error_body
from ..protocol.wire import VERSION_HEADER
from ..requests.audit import audit_exchange
from ..requests.exchange import Exchange
from ..sending.headers import complete_headers
from .logs import REQUEST_ID_HEADER, log_exchange, within_request
from .metrics import Metrics
from .turns import Turn, Turns

_AGAIN_SECONDS = 2
# Clients quote it in errors.
_TRACE_HEADER = "X-Amzn-Trace-Id"
_TRACE = re.compile(r"[A-Za-z0-9=;:._-]{1,200}")


class Envelope:
    """The layer around an application; `metrics` count what goes through, and requests wait for
    their `turns`.

    Each request has a token (store/cancel.py), `within` that of the server, which is cancelled when
    the client closes its connection. What the handler raises of that is answered with 503, where
    nothing was sent yet; otherwise the connection breaks.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, within: CancelToken) -> None:
        self._app = app
        self._metrics = metrics
        self._turns = Turns()
        self._within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, with the headers added to what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Everything that handles the request shares this, whoever looks at it first.
        scope.setdefault("state", {})
        exchange, asked = Exchange(scope), Headers(scope=scope)
        inbox = _Inbox(receive, exchange, CancelToken(self._within))
        turn = self._turns.begin(scope, asked)
        if not _has_body(asked):
            inbox.watch()
        with within_request(asked) as request_id, self._metrics.under_way.track_inprogress():
            outbox = _Outbox(send, exchange, turn, asked, request_id)
            try:
                with cancelled_by(inbox.token):
                    if turn.waits:
                        await turn.wait()
                    await self._app(scope, inbox.receive, outbox.send)
            except BaseException as error:
                if not _is_cancelled(error):
                    raise
                if not exchange.status:
                    await _answer_ended(scope, receive, outbox.send)
            finally:
                inbox.close()
                self._turns.end(turn, scope, exchange.status)
                exchange.seconds = time.perf_counter() - exchange.start
                self._metrics.count_exchange(exchange)
                audit_exchange(exchange)
                log_exchange(exchange)


class _Outbox:
    """What a client gets: messages of the application, with headers added to the first one."""

    def __init__(
        self, send: Send, exchange: Exchange, turn: Turn, asked: Headers, request_id: str
    ) -> None:
        self._send = send
        self._exchange = exchange
        self._turn = turn
        self._asked = asked
        self._request_id = request_id

    async def send(self, message: Message) -> None:
        """Sends a message, as an application gives it to a server."""
        if message["type"] == "http.response.start":
            self._exchange.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[VERSION_HEADER], headers[REQUEST_ID_HEADER] = __version__, self._request_id
            trace = self._asked.get(_TRACE_HEADER, "")
            if _TRACE.fullmatch(trace):
                headers[_TRACE_HEADER] = trace
            complete_headers(headers, self._asked)
            if self._turn.waits:
                self._turn.leave()
        await self._send(message)
        if message["type"] == "http.response.body":
            self._exchange.sent += len(message.get("body", b""))
            self._exchange.whole = not message.get("more_body", False)
            if not self._exchange.whole:
                self._turn.note()


class _Inbox:
    """What a client sends, with somebody who watches for its end once the body is there, and
    cancels `token` then."""

    def __init__(self, receive: Receive, exchange: Exchange, token: CancelToken) -> None:
        self._receive = receive
        self._exchange = exchange
        self.token = token
        self._held: list[Message] = []
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Returns the next message, as a server gives it to an application."""
        if self._held:
            return self._held.pop(0)
        message = await self._next()
        if message["type"] == "http.disconnect":
            self.token.cancel()
        elif not message.get("more_body", False):
            self.watch()
        return message

    def watch(self) -> None:
        """Cancels the token when the client goes; to be called when no more of the body comes."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._wait_for_end())

    def close(self) -> None:
        """Watches no longer."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _wait_for_end(self) -> None:
        while (message := await self._next())["type"] != "http.disconnect":
            # The empty body of a request without one, for whoever reads it.
            self._held.append(message)
        self.token.cancel()

    async def _next(self) -> Message:
        message = await self._receive()
        self._exchange.received += len(message.get("body", b""))
        return message


def _has_body(asked: Headers) -> bool:
    return "transfer-encoding" in asked or asked.get("content-length", "0") != "0"


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(Cancelled)[1] is None
    return isinstance(error, Cancelled)


async def _answer_ended(scope: Scope, receive: Receive, send: Send) -> None:
    body = error_body(Overloaded.code, "the server stops", "try again in a moment")
    headers = {"Retry-After": str(_AGAIN_SECONDS), "Connection": "close"}
    response = JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE, headers)
    await response(scope, receive, send)

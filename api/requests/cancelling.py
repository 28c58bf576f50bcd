"""Ends what is done for a request once its client is gone, or the server stops."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...store.cancel import Cancelled, CancelToken, cancelled_by
from ..errors import Overloaded, error_body

_AGAIN_SECONDS = 2


class Cancelling:
    """Gives each request a token (store/cancel.py), `within` that of the server, and cancels it
    when the client closes its connection.

    What the handler raises of that is answered with 503, where nothing was sent yet; otherwise the
    connection breaks.
    """

    def __init__(self, app: ASGIApp, within: CancelToken) -> None:
        self._app = app
        self._within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application so that `check_cancelled` knows of its client."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = CancelToken(self._within)
        inbox = _Inbox(receive, token)
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        if not _has_body(scope):
            inbox.watch()
        try:
            with cancelled_by(token):
                await self._app(scope, inbox.receive, send_on)
        except BaseException as error:
            if not _is_cancelled(error):
                raise
            if not started:
                await _answer_ended(scope, receive, send)
        finally:
            inbox.close()


class _Inbox:
    """What a client sends, with somebody who watches for its end once the body is there."""

    def __init__(self, receive: Receive, token: CancelToken) -> None:
        self._receive = receive
        self._token = token
        self._held: list[Message] = []
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Returns the next message, as a server gives it to an application."""
        if self._held:
            return self._held.pop(0)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._token.cancel()
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
        while (message := await self._receive())["type"] != "http.disconnect":
            # The empty body of a request without one, for whoever reads it.
            self._held.append(message)
        self._token.cancel()


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(Cancelled)[1] is None
    return isinstance(error, Cancelled)


async def _answer_ended(scope: Scope, receive: Receive, send: Send) -> None:
    body = error_body(Overloaded.code, "the server stops", "try again in a moment")
    headers = {"Retry-After": str(_AGAIN_SECONDS), "Connection": "close"}
    response = JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE, headers)
    await response(scope, receive, send)
